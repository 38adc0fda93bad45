"""KIT314, comprehension stays together."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT314",
    name="comprehension-stays-together",
    severity="note",
    what="A comprehension or generator with checkpoints stays in one step.",
    why=(
        "It runs over a value known only at run time; a generator even runs its checkpoints only "
        "when something reads it."
    ),
    bad="notes = [research(t) for t in topics]",
    good="notes = research.map(topics)  # side by side, results in order",
)
