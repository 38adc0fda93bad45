"""Rules about what a target allows and what travels to it."""

from kitaru_compiler.diagnostics.model import Rule

REQUIREMENT_NOT_PINNED = Rule(
    code="KIT501",
    name="requirement-not-pinned",
    severity="warning",
    what="A requirement has no exact version.",
    why=(
        "A step installs what the plan names; without `==` two runs of one compilation may run "
        "different code."
    ),
    bad="pandas>=2",
    good="pandas==2.2.3",
)

IMPORT_NOT_IN_IMAGE = Rule(
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

INPUT_WITHOUT_JSON = Rule(
    code="KIT503",
    name="input-without-json",
    severity="warning",
    what="An input of the flow is of a type that no JSON value can be.",
    why=(
        "A pipeline's parameters, the command line and the console of an orchestrator all hand "
        "over JSON. Text, numbers, booleans, lists, dicts, dataclasses and pydantic models are "
        "made from it; a data frame, a function or a class of one's own is not."
    ),
    bad="""\
class Brief:
    def __init__(self, topic: str) -> None:
        self.topic = topic

@flow
def main(brief: Brief) -> str:
    return draft(brief.topic)
""",
    good="""\
@dataclass
class Brief:
    topic: str

@flow
def main(brief: Brief) -> str:
    return draft(brief.topic)
""",
)

FILE_NOT_IN_BUNDLE = Rule(
    code="KIT504",
    name="file-not-in-bundle",
    severity="warning",
    what="The code reads a file, or imports a module, that no container of the pipeline has.",
    why=(
        "A step has what is in the bundle: the modules that the flow imports, the files that its"
        " code names, and those of `[tool.kitaru] include`. Files that .gitignore or `exclude`"
        " name, and files that look like credentials, are never among them."
    ),
    bad="""\
import importlib

@checkpoint
def ask(name: str) -> str:
    return importlib.import_module(name).answer()

@flow
def main(name: str) -> str:
    return ask(name)
""",
    good="""\
import importlib

@checkpoint
def ask(name: str) -> str:
    return importlib.import_module(f"plugins.{name}").answer()

@flow
def main(name: str) -> str:
    return ask(name)
""",
)

MODULE_NAME_TAKEN = Rule(
    code="KIT505",
    name="module-name-taken",
    severity="error",
    what="A module of the project has the name of another module that a process needs.",
    why=(
        "With `email.py` beside the flow there are two modules called `email`, and a process can"
        " only have one. `python flow.py` uses the project's for both, until the first HTTP request"
        " fails in the standard library. Kitaru never replaces the standard library, nor the"
        " packages of its own command line, so the flow would import the other module."
    ),
    bad="""\
# calendar.py is beside the flow
from calendar import free_slots
""",
    good="""\
# agenda.py is beside the flow
from agenda import free_slots
""",
)

BUNDLE_TOO_LARGE = Rule(
    code="KIT506",
    name="bundle-too-large",
    severity="error",
    what="The files of the project take more room than a bundle may.",
    why=(
        "Every step fetches the bundle when it starts. Models and data sets belong in a bucket or"
        " in the image; what the flow does not read can be excluded."
    ),
    bad="""\
# weights.bin of 40 MB is beside the flow
WEIGHTS = Path(__file__).with_name("weights.bin").read_bytes()
""",
    good="""\
WEIGHTS = Path("/models/weights.bin").read_bytes()
""",
)

START_AT_IMPORT = Rule(
    code="KIT507",
    name="start-at-import",
    severity="note",
    what="The top level of a module starts an execution.",
    why=(
        "`python flow.py` starts it, as written. Kitaru imports the same file to answer, resume "
        "or run a flow, and in every container, and an import starts nothing: the statement is "
        "left out there, what follows it is executed, and the names that the statement binds are "
        'not defined. Under `if __name__ == "__main__":` that is visible in the source.'
    ),
    bad="""\
@flow
def main(topic: str) -> str:
    return draft(topic)

handle = main.run("kayaks")
print(handle.wait())
""",
    good="""\
@flow
def main(topic: str) -> str:
    return draft(topic)

if __name__ == "__main__":
    handle = main.run("kayaks")
    print(handle.wait())
""",
)

MODEL_KNOWN_AT_RUN_TIME = Rule(
    code="KIT508",
    name="model-known-at-run-time",
    severity="note",
    what="The source does not show which model a call asks.",
    why=(
        "A step has only the libraries that reach the models named in the code and in"
        " [tool.kitaru.models]. The call fails in the step if its model needs another library."
    ),
    bad="""\
@flow
def main(topic: str, model: str) -> str:
    return kitaru.llm(f"Write about {topic}.", model=model)
""",
    good="""\
MODELS = {"small": "anthropic/claude-haiku-4-5", "large": "anthropic/claude-opus-4-5"}

@flow
def main(topic: str, size: str) -> str:
    return kitaru.llm(f"Write about {topic}.", model=MODELS[size])
""",
)
