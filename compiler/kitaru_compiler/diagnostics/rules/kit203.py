"""KIT203, random value in the flow's body."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT203",
    name="random-in-flow",
    severity="warning",
    what="The flow's body draws a random number, a UUID or a token.",
    why=(
        "The body runs again whenever the execution resumes, and would draw another one; a "
        "checkpoint that gets it would then be asked for something else than was recorded. The "
        "state of a random generator does not cross to another process either."
    ),
    bad="""\
@flow
def main() -> str:
    return publish(str(uuid.uuid4()))
""",
    good="""\
@checkpoint
def new_id() -> str:
    return str(uuid.uuid4())

@flow
def main() -> str:
    return publish(new_id())
""",
)
