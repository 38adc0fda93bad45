"""KIT108, secret literal."""

from kitaru_compiler.diagnostics.model import Rule

RULE = Rule(
    code="KIT108",
    name="secret-literal",
    severity="error",
    what="A key, password or token is written out in the source.",
    why=(
        "The project's source goes into the bundle, into every container, and onto the screens of"
        " all who read a log of it. Kitaru masks the text wherever it shows the line; who already"
        " has the source has the secret, so it must be replaced as well."
    ),
    bad="""\
api_key = "sk-…"

@checkpoint
def ask(question: str) -> str:
    return client(api_key).ask(question)
""",
    good="""\
import os

@checkpoint
def ask(question: str) -> str:
    return client(os.environ["API_KEY"]).ask(question)
""",
)
