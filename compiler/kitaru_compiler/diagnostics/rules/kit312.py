"""KIT312, try stays together."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT312",
    name="try-stays-together",
    severity="note",
    what="A `try` statement with checkpoints stays in one step.",
    why=(
        "The handler must see what the body raises, and an exception does not cross from one "
        "container to the next. A failure that is caught is recorded, and raised again the same "
        "way on every replay."
    ),
    bad="""\
try:
    text = draft(brief)
except ValueError:
    text = fallback(brief)
""",
    good="text = draft(brief)  # with @checkpoint(retries=2)",
)
