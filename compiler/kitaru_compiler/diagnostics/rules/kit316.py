"""KIT316, helper stays together."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT316",
    name="helper-stays-together",
    severity="note",
    what="A call to a function that itself calls checkpoints stays in one step.",
    why=(
        "The checkpoints inside it are recorded one by one, but the function's own variables live"
        " in one process."
    ),
    bad="""\
def prepare(topic): return draft(research(topic))

@flow
def main(topic: str):
    return prepare(topic)
""",
    good="""\
@flow
def main(topic: str):
    return draft(research(topic))
""",
)
