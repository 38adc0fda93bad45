"""Rules about the source itself: what can be read and found in it."""

from kitaru_compiler.diagnostics.model import Rule

SYNTAX_ERROR = Rule(
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

SOURCE_TOO_LARGE = Rule(
    code="KIT102",
    name="source-too-large",
    severity="error",
    what="The file is larger, or nested deeper, than the compiler follows.",
    why=(
        "Limits keep hostile or generated source from taking the compiler down; no hand-written "
        "flow comes near them."
    ),
    bad="value = 1 + 1 + …  # 100,000 times",
    good="value = sum(1 for _ in range(100_000))",
)

NO_FLOW = Rule(
    code="KIT103",
    name="no-flow",
    severity="error",
    what="The file defines no flow.",
    why=(
        "A flow is the function Kitaru compiles; it is found by its decorator, under any import "
        "alias."
    ),
    bad="def main(topic: str): ...",
    good="""\
from kitaru import flow

@flow
def main(topic: str): ...
""",
)

UNKNOWN_FLOW = Rule(
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

SEVERAL_FLOWS = Rule(
    code="KIT105",
    name="several-flows",
    severity="error",
    what="The file has several flows, and none was named.",
    why="One compilation is one flow.",
    bad="kitaru compile flows.py --target vertex",
    good="kitaru compile flows.py:review --target vertex",
)

ASYNC_OR_GENERATOR_FLOW = Rule(
    code="KIT106",
    name="async-or-generator-flow",
    severity="error",
    what="The flow is an async function or a generator.",
    why=(
        "A flow's body runs once, in order, and is cut into steps: there is no event loop between"
        " two containers, and a generator would run nothing when called."
    ),
    bad="""\
@flow
async def main(topic: str):
    return await research(topic)
""",
    good="""\
@flow
def main(topic: str):
    return research(topic)  # research may be an async checkpoint
""",
)

FLOW_NOT_IMPORTABLE = Rule(
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

SECRET_LITERAL = Rule(
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

TEXT_IN_ANOTHER_ORDER = Rule(
    code="KIT109",
    name="text-in-another-order",
    severity="warning",
    what="The source holds an invisible character that turns the order of the text around it.",
    why=(
        "Editors and review pages then show another program than the one that runs: what looks "
        "like a comment may be code, and the other way round."
    ),
    bad="""\
@flow
def main(role: str) -> str:
    return draft(role)  # \u202e only for admins \u2066
""",
    good="""\
@flow
def main(role: str) -> str:
    return draft(role)  # only for admins
""",
)

IGNORE_WITHOUT_EFFECT = Rule(
    code="KIT110",
    name="ignore-without-effect",
    severity="note",
    what="A comment asks to ignore a finding that is not on its line, or that cannot be ignored.",
    why=(
        "`# kitaru: ignore[CODE]` silences the warnings and notes of these codes on its own line. "
        "What it no longer silences it would hide when it comes back. Errors are never silenced: "
        "the flow could not run."
    ),
    bad="""\
@flow
def main(topic: str) -> str:
    return draft(topic)  # kitaru: ignore[KIT202]
""",
    good="""\
@flow
def main(topic: str) -> str:
    return draft(topic, time.time())  # kitaru: ignore[KIT202]
""",
)
