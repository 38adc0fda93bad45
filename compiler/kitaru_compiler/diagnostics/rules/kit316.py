"""KIT316, helper stays together."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT316",
    name="helper-stays-together",
    severity="note",
    what=(
        "A call to a function that itself calls checkpoints stays in one step: it cannot be written"
        " out where it is called."
    ),
    why=(
        "Such a function is cut like the flow's own body when it is certain which one is called and"
        " with which arguments. A function that calls itself, is decorated, async or a generator,"
        " sees its own frame, takes any number of arguments, or needs a default that is one object"
        " for all calls, is called as it is; its checkpoints are recorded one by one all the same."
    ),
    bad="""\
def refine(text, rounds):
    if not rounds:
        return text
    return refine(revise(text), rounds - 1)

@flow
def main(topic: str):
    return refine(draft(topic), 3)
""",
    good="""\
def refine(text):
    return polish(revise(text))

@flow
def main(topic: str):
    return refine(draft(topic))
""",
)
