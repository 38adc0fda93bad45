"""KIT503, input without JSON."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT503",
    name="input-without-json",
    severity="warning",
    what="An input of the flow is of a type that no JSON value can be.",
    why=(
        "A pipeline's parameters, the command line and the console of an orchestrator all hand "
        "over JSON. Text, numbers, booleans, lists, dicts, dataclasses and pydantic models are "
        "made from it; a data frame, a function or a class of one's own is not."
    ),
    bad="""\
class Brief:
    def __init__(self, topic: str) -> None:
        self.topic = topic

@flow
def main(brief: Brief) -> str:
    return draft(brief.topic)
""",
    good="""\
@dataclass
class Brief:
    topic: str

@flow
def main(brief: Brief) -> str:
    return draft(brief.topic)
""",
)
