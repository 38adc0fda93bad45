"""KIT317, local function calls checkpoints."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT317",
    name="local-function-calls-checkpoints",
    severity="note",
    what=(
        "A function defined in the flow's body calls checkpoints; what follows stays in one step, "
        "up to its last call."
    ),
    why="Its variables live in the running function, which does not cross a cut.",
    bad="""\
@flow
def main(topic: str):
    def ask(q): return answer(q, topic)
    return ask("why?")
""",
    good="""\
@flow
def main(topic: str):
    return answer("why?", topic)
""",
)
