"""KIT603, name refused."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT603",
    name="name-refused",
    severity="error",
    what="The flow's name is one the target refuses.",
    why=(
        "Each target has a grammar and a length for names; a name cut off or mangled silently "
        "would collide with another."
    ),
    bad="""\
@flow
def résumé_of_a_very_long_name(): ...
""",
    good="""\
@flow(name="resume")
def résumé(): ...
""",
)
