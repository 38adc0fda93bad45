"""KIT310, while stays together."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT310",
    name="while-stays-together",
    severity="note",
    what="A `while` loop with checkpoints stays in one step.",
    why=(
        "How often it runs depends on results, and no orchestrator of ours can loop natively. "
        "Each checkpoint inside is still recorded on its own, so a crash loses at most the one in"
        " flight."
    ),
    bad="""\
while not good(text):
    text = revise(text)
""",
    good="""\
for _ in range(3):  # a constant bound is cut
    text = revise(text)
""",
)
