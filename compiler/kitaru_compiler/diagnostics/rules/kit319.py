"""KIT319, flow sees its frame."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT319",
    name="flow-sees-its-frame",
    severity="note",
    what=(
        "The flow uses `global`, `locals()`, `eval` or the like; the whole flow stays in one step."
    ),
    why=(
        "Generated functions have other frames and names than the user's function, and this code "
        "could tell."
    ),
    bad="""\
total = 0

@flow
def main(n: int):
    global total
    total += count(n)
""",
    good="""\
@flow
def main(n: int) -> int:
    return count(n)
""",
)
