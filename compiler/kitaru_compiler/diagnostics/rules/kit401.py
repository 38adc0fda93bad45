"""KIT401, wait in checkpoint."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT401",
    name="wait-in-checkpoint",
    severity="error",
    what="A wait or a memory operation is called in a checkpoint.",
    why=(
        "A checkpoint is ordinary Python whose result is recorded; it cannot suspend the "
        "execution, and what it read would change from one attempt to the next."
    ),
    bad="""\
@checkpoint
def publish(text):
    if kitaru.wait(name="ok", schema=bool): ...
""",
    good="""\
@flow
def main(text: str):
    if kitaru.wait(name="ok", schema=bool):
        publish(text)
""",
)
