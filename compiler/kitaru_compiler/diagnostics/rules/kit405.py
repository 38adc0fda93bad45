"""KIT405, checkpoint awaited."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT405",
    name="checkpoint-awaited",
    severity="error",
    what="A checkpoint's call is awaited, or given to an event loop.",
    why=(
        "Called from a flow, a checkpoint gives its result, also when it is async: Kitaru runs its "
        "coroutine. An event loop refuses what is no coroutine. What should run side by side is "
        "started with `.submit()`."
    ),
    bad="""\
@flow
def main(topic: str) -> str:
    return asyncio.run(research(topic))
""",
    good="""\
@flow
def main(topic: str) -> str:
    return research(topic)  # also when research is async
""",
)
