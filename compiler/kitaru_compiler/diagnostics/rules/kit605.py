"""KIT605, name not allowed."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT605",
    name="name-not-allowed",
    severity="error",
    what="The name of a checkpoint, a wait or a call does not fit the grammar of names.",
    why=(
        "Names become parts of keys in the store and of names in the orchestrator: a letter or "
        "underscore, then letters, digits, underscores or dashes, all ASCII, at most 100 "
        "characters."
    ),
    bad="""\
ok = kitaru.wait(name="approve draft?")
""",
    good="""\
ok = kitaru.wait(name="approve_draft", question="Approve draft?")
""",
)
