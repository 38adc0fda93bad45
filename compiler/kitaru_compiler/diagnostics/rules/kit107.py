"""KIT107, flow not importable."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT107",
    name="flow-not-importable",
    severity="error",
    what="The flow is not defined at the top level of its module, or not by @flow alone.",
    why=(
        "A step imports the module and looks the flow up by name; a nested function or one "
        "wrapped by another decorator is not there."
    ),
    bad="""\
def make():
    @flow
    def main(): ...
    return main
""",
    good="""\
@flow
def main(): ...
""",
)
