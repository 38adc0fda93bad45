"""KIT110, ignore without effect."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT110",
    name="ignore-without-effect",
    severity="note",
    what="A comment asks to ignore a finding that is not on its line, or that cannot be ignored.",
    why=(
        "`# kitaru: ignore[CODE]` silences the warnings and notes of these codes on its own line. "
        "What it no longer silences it would hide when it comes back. Errors are never silenced: "
        "the flow could not run."
    ),
    bad="""\
@flow
def main(topic: str) -> str:
    return draft(topic)  # kitaru: ignore[KIT202]
""",
    good="""\
@flow
def main(topic: str) -> str:
    return draft(topic, time.time())  # kitaru: ignore[KIT202]
""",
)
