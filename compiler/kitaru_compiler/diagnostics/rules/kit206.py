"""KIT206, mutable default."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT206",
    name="mutable-default",
    severity="warning",
    what="A list, dict or set is the default of an input of a flow or a checkpoint.",
    why=(
        "Python makes it once and gives every call in a process the same one. What one call "
        "changes the next one sees, but only where both run in one process: the result then "
        "depends on where the flow was cut."
    ),
    bad="""\
@checkpoint
def collect(item: str, seen: list[str] = []) -> list[str]: ...
""",
    good="""\
@checkpoint
def collect(item: str, seen: list[str] | None = None) -> list[str]:
    seen = seen or []
    ...
""",
)
