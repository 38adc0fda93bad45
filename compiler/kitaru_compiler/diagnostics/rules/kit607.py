"""KIT607, more steps than the target takes."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT607",
    name="too-many-steps",
    severity="note",
    what="The flow has more calls than the target's documents have steps.",
    why=(
        "A cut that a target cannot express is not made: what comes after the last step that it "
        "takes runs in that step, still durable call by call."
    ),
    bad="""\
for n in range(60):  # unrolled: 240 steps
    text = draft(n)
    publish(revise(clean(text)))
""",
    good="""\
def one(n):
    text = draft(n)
    publish(revise(clean(text)))

for n in list(range(60)):  # in one step
    one(n)
""",
)
