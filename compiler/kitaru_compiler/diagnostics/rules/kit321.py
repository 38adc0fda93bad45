"""KIT321, expression stays together."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT321",
    name="expression-stays-together",
    severity="note",
    what=(
        "A checkpoint is called where its order among the other expressions cannot be written down."
    ),
    why="Lambdas, asserts, format specifications and the like run it lazily or not at all.",
    bad='assert good(text), "bad draft"',
    good="""\
ok = good(text)
assert ok, "bad draft"
""",
)
