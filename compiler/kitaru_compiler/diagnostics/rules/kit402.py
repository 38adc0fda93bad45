"""KIT402, nested checkpoint."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT402",
    name="nested-checkpoint",
    severity="error",
    what="A checkpoint is called in a checkpoint.",
    why=(
        "The inner result would be recorded as part of the outer one, and be lost when the outer "
        "one runs again."
    ),
    bad="""\
@checkpoint
def outer(x): return inner(x)
""",
    good="""\
@flow
def main(x: int): return outer(inner(x))
""",
)
