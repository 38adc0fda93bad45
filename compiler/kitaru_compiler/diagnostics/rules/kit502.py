"""KIT502, import not in image."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT502",
    name="import-not-in-image",
    severity="warning",
    what=(
        "A module is imported that neither the project, the standard library nor its requirements"
        " provide."
    ),
    why="The step would fail when it imports it, unless the base image has it.",
    bad="import pandas  # and no requirements.txt",
    good="""\
# requirements.txt
pandas==2.2.3
""",
)
