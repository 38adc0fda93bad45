"""KIT322, guards decide."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT322",
    name="guards-decide",
    severity="note",
    what="No one step decides a branch, so steps of it start and ask their own guard.",
    why=(
        "A native condition needs one step that decides. Here the test follows a join, or a loop "
        "may have been left before it, and it is computed at the end of whichever step came last: "
        "in each arm the first step starts, and decides for the others. Deeper than the target "
        "nests conditions, each step starts."
    ),
    bad="""\
if a:
    x = first()
else:
    x = second()
if x:
    third(x)
""",
    good="""\
if a:
    x = first()
else:
    x = second()
x = settle(x)  # one step that always runs
if x:
    third(x)
""",
)
