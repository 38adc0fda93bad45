"""KIT406, model call that no run can make."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT406",
    name="model-call-refused",
    severity="error",
    what="`kitaru.llm` is given both tools and a schema, or a capture policy that does not exist.",
    why=(
        "A model either asks for tools or answers in a shape, so that a call returns either a "
        "`kitaru.Reply` or an instance. What may be kept of a call is `full`, `metadata` or `off`. "
        "Anything else is refused when the call is made, in the middle of a run."
    ),
    bad="""\
@flow
def main(topic: str) -> str:
    return kitaru.llm(topic, tools=TOOLS, schema=Answer)
""",
    good="""\
@flow
def main(topic: str) -> str:
    found = kitaru.llm(topic, tools=TOOLS)
    return kitaru.llm(found.text, schema=Answer)
""",
)
