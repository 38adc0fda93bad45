"""KIT201, local function crosses."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT201",
    name="local-function-crosses",
    severity="note",
    what="A function or class defined in the flow's body is still needed after a cut.",
    why=(
        "Local functions are never defined again: doing so would run their defaults and "
        "decorators twice and lose identity. The cut is left out at run time, so the steps share "
        "a process."
    ),
    bad="""\
@flow
def main(text: str):
    def shorten(s): return s[:10]
    notes = research(text)
    return shorten(draft(notes))
""",
    good="""\
def shorten(s): return s[:10]

@flow
def main(text: str):
    notes = research(text)
    return shorten(draft(notes))
""",
)
