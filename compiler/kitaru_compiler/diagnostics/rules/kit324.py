"""KIT324, too many steps."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT324",
    name="too-many-steps",
    severity="note",
    what="The flow calls more checkpoints than a pipeline has room for; it stays in one step.",
    why=(
        "Each call that is cut is a container and a node in the orchestrator's console, and every "
        "variable that lives across them is carried past each one. Every call is still recorded "
        "on its own, so a crash loses at most the one in flight."
    ),
    bad="""\
@flow
def main(a: str):
    a = clean(a)
    ...  # two thousand calls more
""",
    good="""\
@flow
def main(items: list[str]):
    for item in items:  # one step, any number of calls
        clean(item)
""",
)
