"""KIT322, guards decide."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT322",
    name="guards-decide",
    severity="note",
    what=(
        "A branch is decided by several steps, so each of its steps starts and asks its own guard."
    ),
    why=(
        "A native condition needs one step that decides. Here the test follows a join, and is "
        "computed at the end of whichever step came before it."
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
