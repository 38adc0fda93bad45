"""KIT403, flow in a checkpoint."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT403",
    name="flow-in-checkpoint",
    severity="error",
    what="A flow is called in a checkpoint.",
    why=(
        "A checkpoint is one recorded unit; a flow is made of them. Called in a flow's body, a flow"
        " runs as a part of that execution."
    ),
    bad="""\
@checkpoint
def work(x: int): return other(x)
""",
    good="""\
@flow
def main(x: int): return other(x)  # its checkpoints are this execution's
""",
)
