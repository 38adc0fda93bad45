"""Rules about the source itself: syntax, imports and definitions."""

from kitaru_compiler.diagnostics.model import Fix, Rule

SYNTAX_ERROR = Rule(
    code="KIT101",
    name="syntax-error",
    severity="error",
    what="The file is not valid Python.",
    why="Source that Python itself rejects cannot be compiled. The message is Python's own.",
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
    what="The file is larger, or nested deeper, than the compiler supports.",
    why=(
        "The limits protect the compiler from hostile or generated source. Hand-written flows "
        "do not reach them."
    ),
    bad="value = 1 + 1 + …  # 100,000 times",
    good="value = sum(1 for _ in range(100_000))",
)

NO_FLOW = Rule(
    code="KIT103",
    name="no-flow",
    severity="error",
    what="The file defines no flow.",
    why="Kitaru compiles flows. A flow is found by its decorator, under any import alias.",
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
    what="The file has several flows, and none was selected.",
    why="One compilation compiles one flow.",
    bad="kitaru compile flows.py --target vertex",
    good="kitaru compile flows.py:review --target vertex",
)

GENERATOR_FLOW = Rule(
    code="KIT106",
    name="generator-flow",
    severity="error",
    what="The flow is a generator.",
    why="A call of a generator function runs nothing.",
    bad="""\
@flow
def main(topics: list[str]):
    for topic in topics:
        yield research(topic)
""",
    good="""\
@flow
def main(topics: list[str]):
    return [research(topic) for topic in topics]
""",
)

FLOW_NOT_IMPORTABLE = Rule(
    code="KIT107",
    name="flow-not-importable",
    severity="error",
    what=(
        "The flow is not defined at the top level of its module, or has other decorators than "
        "@flow."
    ),
    why=(
        "A step imports the module and looks up the flow by name. A nested function, or one "
        "that another decorator wraps, cannot be found this way."
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
        "The project's source is copied into the bundle and into every container, and it "
        "appears in logs. Kitaru masks the text wherever it shows the line. But everybody with "
        "the source has the secret, so replace the secret too."
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
    what=(
        "The source contains an invisible character that reverses the order of the text around it."
    ),
    why=(
        "Editors and review pages then show a different program from the one that runs: a "
        "comment may look like code, and code may look like a comment."
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
    fix=Fix(
        "Removes the character from a comment; in a string that is not raw, writes its escape.",
        is_safe=True,
    ),
)

IGNORE_WITHOUT_EFFECT = Rule(
    code="KIT110",
    name="ignore-without-effect",
    severity="note",
    what="A comment ignores a finding that is not on its line, or that cannot be ignored.",
    why=(
        "`# kitaru: ignore[CODE]` silences warnings and notes with these codes on its own line. "
        "A comment without effect would hide the finding if it came back. Errors cannot be "
        "silenced, because the flow could not run."
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
    fix=Fix(
        "Removes the code from the comment, and the comment when no code is left.", is_safe=True
    ),
)
