"""KIT606, beyond a target's limit."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT606",
    name="beyond-a-limit",
    severity="error",
    what="The compiled flow has more of something than the target takes.",
    why=(
        "The service would refuse the document, or fail one of its steps: too many inputs, a "
        "variable or an argument that is too long, a machine that there is not, too large a text."
    ),
    bad="""\
@checkpoint(memory="4Ti")
def embed(texts: list[str]) -> list: ...
""",
    good="""\
@checkpoint(memory="64Gi")
def embed(texts: list[str]) -> list: ...
""",
)
