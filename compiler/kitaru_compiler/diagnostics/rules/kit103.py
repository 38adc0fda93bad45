"""KIT103, no flow."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT103",
    name="no-flow",
    severity="error",
    what="The file defines no flow.",
    why=(
        "A flow is the function Kitaru compiles; it is found by its decorator, under any import "
        "alias."
    ),
    bad="def main(topic: str): ...",
    good="""\
from kitaru import flow

@flow
def main(topic: str): ...
""",
)
