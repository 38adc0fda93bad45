"""KIT202, clock in the flow's body."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT202",
    name="clock-in-flow",
    severity="warning",
    what="The flow's body reads the clock.",
    why=(
        "The body runs again whenever the execution resumes, and its parts run in processes of "
        "their own: each would see another time. What a checkpoint returns is recorded, and the "
        "same ever after."
    ),
    bad="""\
@flow
def main() -> str:
    return report(datetime.now().isoformat())
""",
    good="""\
@checkpoint
def now() -> str:
    return datetime.now().isoformat()

@flow
def main() -> str:
    return report(now())
""",
)
