"""KIT109, text in another order."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT109",
    name="text-in-another-order",
    severity="warning",
    what="The source holds an invisible character that turns the order of the text around it.",
    why=(
        "Editors and review pages then show another program than the one that runs: what looks "
        "like a comment may be code, and the other way round."
    ),
    bad="""\
@flow
def main(role: str) -> str:
    return draft(role)  # \u202e only for admins \u2066
""",
    good="""\
@flow
def main(role: str) -> str:
    return draft(role)  # only for admins
""",
)
