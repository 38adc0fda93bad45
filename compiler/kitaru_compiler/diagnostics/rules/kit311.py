"""KIT311, for stays together."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT311",
    name="for-stays-together",
    severity="note",
    what="A `for` loop with checkpoints stays in one step.",
    why=(
        "It runs over a value known only at run time, has too many rounds to be written out, or is "
        "left through a `finally`. Each checkpoint inside is still recorded on its own."
    ),
    bad="""\
for topic in topics:
    notes.append(research(topic))
""",
    good="""\
for topic in ("a", "b"):  # a literal is cut, `break` and `continue` included
    notes.append(research(topic))
""",
)
