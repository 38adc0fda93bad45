"""KIT204, environment in the flow's body."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT204",
    name="environment-in-flow",
    severity="warning",
    what=(
        "The flow's body reads the environment of its process: a variable, the working directory,"
        " the host."
    ),
    why=(
        "Each step runs in a container of its own, and a resume on another machine: each may see "
        "something else, and the flow would take another path than it did before."
    ),
    bad="""\
@flow
def main(topic: str) -> str:
    return research(topic, os.environ["REGION"])
""",
    good="""\
@flow
def main(topic: str, region: str) -> str:
    return research(topic, region)
""",
)
