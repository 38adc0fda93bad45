"""KIT212, argument changed."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT212",
    name="argument-changed",
    severity="warning",
    what="A checkpoint changes one of its arguments.",
    why=(
        "Arguments are copies: a recorded checkpoint does not run again, and a later step runs "
        "elsewhere, so the change would be missing. Kitaru notices it after the call, and the "
        "checkpoint fails."
    ),
    bad="""\
@checkpoint
def collect(found: list[str], topic: str) -> None:
    found.append(topic)
""",
    good="""\
@checkpoint
def collect(found: list[str], topic: str) -> list[str]:
    return [*found, topic]
""",
)
