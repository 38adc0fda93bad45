"""KIT315, match stays together."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT315",
    name="match-stays-together",
    severity="note",
    what="A `match` statement with a checkpoint in a guard stays in one step.",
    why=(
        "Patterns and guards are asked in one go, and which guard is asked depends on the patterns "
        "before it. Checkpoints in the bodies of the cases alone are cut."
    ),
    bad="""\
match ticket:
    case [kind, text] if urgent(text):
        escalate(ticket)
""",
    good="""\
hurry = urgent(ticket[1])
match ticket:
    case [kind, text] if hurry:
        escalate(ticket)
""",
)
