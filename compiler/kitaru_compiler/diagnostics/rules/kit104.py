"""KIT104, unknown flow."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT104",
    name="unknown-flow",
    severity="error",
    what="The file has no flow of that name.",
    why=(
        "The name after the colon must be a function decorated with @flow at the top level of the"
        " file."
    ),
    bad="kitaru compile flows.py:mian --target vertex",
    good="kitaru compile flows.py:main --target vertex",
)
