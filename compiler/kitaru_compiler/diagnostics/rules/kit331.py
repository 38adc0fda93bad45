"""KIT331, cleanup around a wait."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT331",
    name="cleanup-around-wait",
    severity="note",
    what="A `finally`, a `with` or a handler for everything stands around a wait.",
    why=(
        "When a flow suspends its process ends right there: nothing is unwound, as if the wait had "
        "not returned yet, which may take days. What is cleaned up after the wait is cleaned up "
        "after the answer; until then a lease or a lock in another system stays taken. Resuming "
        "runs the code before the wait again, except for what is recorded."
    ),
    bad="""\
@flow
def main(text: str) -> str:
    try:
        ok = kitaru.wait(name="ok")
    finally:
        release(text)
    return draft(text) if ok else text
""",
    good="""\
@flow
def main(text: str) -> str:
    release(text)
    ok = kitaru.wait(name="ok")
    return draft(text) if ok else text
""",
)
