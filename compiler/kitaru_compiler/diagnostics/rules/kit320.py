"""KIT320, fan out stays together."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT320",
    name="fan-out-stays-together",
    severity="note",
    what="Submitted checkpoints run side by side within one step.",
    why=(
        "Between the first `.submit()` and the last use of its futures nothing is cut: waiting at"
        " a cut would undo the concurrency. Each result is still recorded on its own."
    ),
    bad="""\
handles = [research.submit(t) for t in topics]
notes = [h.result() for h in handles]
""",
    good="""\
handles = [research.submit(t) for t in topics]
notes = [h.result() for h in handles]  # fine: one step, many threads
""",
)
