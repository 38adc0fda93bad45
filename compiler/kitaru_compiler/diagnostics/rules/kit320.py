"""KIT320, work beside submitted calls stays with them."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT320",
    name="work-beside-submitted-calls",
    severity="note",
    what="Submitted checkpoints run beside other work, or side by side within one step.",
    why=(
        "What is submitted and then gathered becomes nodes of its own. Where the flow calls another"
        " checkpoint before it asks for the results, that one runs beside them, and a cut would"
        " wait first. So all of it stays in one step, on threads, each result recorded on its own."
    ),
    bad="""\
words = count.submit(text)
parts = split(text)
return [words.result(), *draft.map(parts).result()]
""",
    good="""\
parts = split(text)
words = count.submit(text)
texts = draft.map(parts)
return [words.result(), *texts.result()]
""",
)
