"""KIT101, syntax error."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT101",
    name="syntax-error",
    severity="error",
    what="The file is not valid Python.",
    why=(
        "Nothing can be compiled from source that Python itself refuses; the message is Python's "
        "own."
    ),
    bad="""\
@flow
def main(:
    ...
""",
    good="""\
@flow
def main():
    ...
""",
)
