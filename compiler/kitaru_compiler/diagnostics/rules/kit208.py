"""KIT208, order of a set."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT208",
    name="set-order",
    severity="warning",
    what="The flow's body goes through a set.",
    why=(
        "The order of a set of texts differs from process to process. After a resume the same "
        "calls would come in another order, and each would be given the record of another one."
    ),
    bad="""\
for name in set(names):
    greet(name)
""",
    good="""\
for name in sorted(set(names)):
    greet(name)
""",
)
