"""KIT501, requirement not pinned."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT501",
    name="requirement-not-pinned",
    severity="warning",
    what="A requirement has no exact version.",
    why=(
        "A step installs what the plan names; without `==` two runs of one compilation may run "
        "different code."
    ),
    bad="pandas>=2",
    good="pandas==2.2.3",
)
