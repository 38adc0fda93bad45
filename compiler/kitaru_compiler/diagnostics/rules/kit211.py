"""KIT211, argument returned."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT211",
    name="argument-returned",
    severity="warning",
    what="A checkpoint returns the very list, dict or set that it was given.",
    why=(
        "What a checkpoint returns is recorded, and its caller gets a copy of it. In plain Python "
        "argument and result would be one object, and a change of one would be seen in the other; "
        "here it is not."
    ),
    bad="""\
@checkpoint
def checked(rows: list[str]) -> list[str]:
    print(len(rows))
    return rows
""",
    good="""\
@checkpoint
def checked(rows: list[str]) -> list[str]:
    return [row for row in rows if row]
""",
)
