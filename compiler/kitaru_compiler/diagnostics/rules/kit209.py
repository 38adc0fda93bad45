"""KIT209, identity of a literal."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT209",
    name="identity-of-literal",
    severity="warning",
    what="The flow's body asks with `is` whether a value is a text or a number.",
    why=(
        "Equal texts and numbers are sometimes one object and sometimes not, and no value is the "
        "same object after it crossed to another process."
    ),
    bad="""\
if kind is "spam":
    return "dropped"
""",
    good="""\
if kind == "spam":
    return "dropped"
""",
)
