"""KIT102, source too large."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT102",
    name="source-too-large",
    severity="error",
    what="The file is larger, or nested deeper, than the compiler follows.",
    why=(
        "Limits keep hostile or generated source from taking the compiler down; no hand-written "
        "flow comes near them."
    ),
    bad="value = 1 + 1 + …  # 100,000 times",
    good="value = sum(1 for _ in range(100_000))",
)
