"""KIT315, match stays together."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT315",
    name="match-stays-together",
    severity="note",
    what="A `match` statement with checkpoints in its cases stays in one step.",
    why="A case binds names and tests them in one go.",
    bad="""\
match kind:
    case "bug": fix(ticket)
    case _: answer(ticket)
""",
    good="""\
if kind == "bug":
    fix(ticket)
else:
    answer(ticket)
""",
)
