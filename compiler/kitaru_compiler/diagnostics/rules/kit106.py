"""KIT106, async or generator flow."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT106",
    name="async-or-generator-flow",
    severity="error",
    what="The flow is an async function or a generator.",
    why=(
        "A flow's body runs once, in order, and is cut into steps: there is no event loop between"
        " two containers, and a generator would run nothing when called."
    ),
    bad="""\
@flow
async def main(topic: str):
    return await research(topic)
""",
    good="""\
@flow
def main(topic: str):
    return research(topic)  # research may be an async checkpoint
""",
)
