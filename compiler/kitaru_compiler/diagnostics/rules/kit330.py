"""KIT330, unreachable code."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT330",
    name="unreachable-code",
    severity="warning",
    what="Code of the flow follows a `return`, `raise`, `break` or `continue` and never runs.",
    why="No step is made for it; a checkpoint or a wait that stands there will never be reached.",
    bad="""\
@flow
def main(topic: str) -> str:
    return draft(topic)
    publish(topic)
""",
    good="""\
@flow
def main(topic: str) -> str:
    text = draft(topic)
    publish(text)
    return text
""",
)
