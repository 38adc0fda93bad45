"""KIT323, dynamic dispatch."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT323",
    name="dynamic-dispatch",
    severity="note",
    what="A call may reach a checkpoint through a value, such as a table of tools.",
    why=(
        "Which checkpoint runs is known only at run time, so no single step can be made for it; "
        "its call is still recorded under its own name."
    ),
    bad="""\
TOOLS = {"search": search, "calc": calc}

result = TOOLS[name](query)
""",
    good="""\
if name == "search":
    result = search(query)
else:
    result = calc(query)
""",
)
