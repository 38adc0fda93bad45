"""KIT403, nested flow."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT403",
    name="nested-flow",
    severity="error",
    what="A flow is called in a flow or in a checkpoint.",
    why=(
        "Sub-flows are not supported: the inner flow would start an execution that nothing resumes."
    ),
    bad="""\
@flow
def main(x: int): return other(x)
""",
    good="""\
@flow
def main(x: int): return work(x)  # call its checkpoints
""",
)
