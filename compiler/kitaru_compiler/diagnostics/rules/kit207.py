"""KIT207, global changed in a checkpoint."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT207",
    name="global-changed",
    severity="warning",
    what="A checkpoint changes a variable of its module.",
    why=(
        "A recorded checkpoint does not run again, so after a resume, or in the next step's "
        "process, the change never happened. Only what a checkpoint returns goes on."
    ),
    bad="""\
FOUND: list[str] = []

@checkpoint
def search(query: str) -> None:
    FOUND.append(query)
""",
    good="""\
@checkpoint
def search(query: str) -> list[str]:
    return [query]
""",
)
