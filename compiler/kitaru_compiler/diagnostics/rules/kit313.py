"""KIT313, with stays together."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT313",
    name="with-stays-together",
    severity="note",
    what="A `with` block with checkpoints stays in one step.",
    why="What it opens (a file, a lock, a connection) lives in one process.",
    bad="""\
with open_client() as client:
    text = draft(client.read())
""",
    good="text = draft(read_all())  # the helper opens and closes the client",
)
