"""KIT604, duplicate id."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT604",
    name="duplicate-id",
    severity="error",
    what="Two calls on one way through the flow are given the same `id=`.",
    why="An id names one invocation of an execution, so the second call would stop the flow.",
    bad="""\
first = draft(brief, id="draft")
second = draft(first, id="draft")
""",
    good="""\
first = draft(brief, id="first_draft")
second = draft(first, id="second_draft")
""",
)
