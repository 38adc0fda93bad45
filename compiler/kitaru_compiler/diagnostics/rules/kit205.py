"""KIT205, file in the flow's body."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT205",
    name="file-in-flow",
    severity="warning",
    what="The flow's body reads a file or a folder.",
    why=(
        "Each step has a disk of its own, and a resume may find another content. What a "
        "checkpoint returns is recorded."
    ),
    bad="""\
@flow
def main(path: str) -> str:
    return summarise(open(path).read())
""",
    good="""\
@checkpoint
def load(path: str) -> str:
    return Path(path).read_text()

@flow
def main(path: str) -> str:
    return summarise(load(path))
""",
)
