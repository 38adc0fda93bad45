"""KIT602, reserved input."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT602",
    name="reserved-input",
    severity="error",
    what="An input's name starts with `kitaru_`.",
    why="Those are the pipeline parameters that Kitaru adds itself.",
    bad="""\
@flow
def main(kitaru_store: str): ...
""",
    good="""\
@flow
def main(store: str): ...
""",
)
