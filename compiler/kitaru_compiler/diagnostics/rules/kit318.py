"""KIT318, closure over changing variable."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT318",
    name="closure-over-changing-variable",
    severity="note",
    what=(
        "A function, lambda, generator or class captures a variable of the flow that changes; the"
        " rest of the flow stays in one step."
    ),
    why=(
        "The captured variable is one shared cell, and a cell does not cross a cut: the closure "
        "would go on seeing the old value."
    ),
    bad="""\
x = 1
f = lambda: x
text = draft(f())
x = 2
return f()
""",
    good="""\
x = 1
f = lambda x=x: x  # takes the value now
""",
)
