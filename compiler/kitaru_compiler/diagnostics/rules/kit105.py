"""KIT105, several flows."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT105",
    name="several-flows",
    severity="error",
    what="The file has several flows, and none was named.",
    why="One compilation is one flow.",
    bad="kitaru compile flows.py --target vertex",
    good="kitaru compile flows.py:review --target vertex",
)
