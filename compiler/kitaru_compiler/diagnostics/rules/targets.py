"""Rules about the restrictions of targets and the files that are bundled for them."""

from kitaru_compiler.diagnostics.model import Fix, Rule

REQUIREMENT_NOT_PINNED = Rule(
    code="KIT501",
    name="requirement-not-pinned",
    severity="warning",
    what="A requirement has no exact version.",
    why=(
        "A step installs the requirements of the plan. Without `==`, two runs of one "
        "compilation may run different code."
    ),
    bad="pandas>=2",
    good="pandas==2.2.3",
)

IMPORT_NOT_IN_IMAGE = Rule(
    code="KIT502",
    name="import-not-in-image",
    severity="warning",
    what=(
        "A module is imported that is not in the project, the standard library or the requirements."
    ),
    why="The import fails in the step, unless the base image contains the module.",
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
    what="An input of the flow has a type that JSON cannot represent.",
    why=(
        "A pipeline's parameters, the command line and the console of an orchestrator all pass "
        "JSON. Strings, numbers, booleans, lists, dicts, dataclasses and pydantic models can be "
        "built from it. A data frame, a function or another class cannot."
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
        "A step has the files of the bundle: the modules that the flow imports, the files that "
        "its code names, and those of `[tool.kitaru] include`. Files that .gitignore or "
        "`exclude` names, and files that look like credentials, are never included."
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
        "With an `email.py` in the project, there are two modules called `email`, and a process "
        "can load only one. `python flow.py` uses the project's module for both, until the "
        "first HTTP request fails in the standard library. Kitaru never replaces the standard "
        "library, nor the packages of its own command line, so the flow would import the other "
        "module."
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
    what="The files of the project are larger than a bundle may be.",
    why=(
        "Every step fetches the bundle when it starts. Store models and data sets in a bucket "
        "or in the image, and exclude files that the flow does not read."
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
        "`python flow.py` starts the execution, as written. Kitaru imports the same file to "
        "answer, resume or run a flow, and in every container. Such an import starts nothing: "
        "the statement is skipped, the statements after it run, and the names that it binds are "
        'not defined. Under `if __name__ == "__main__":`, the source shows this.'
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
    fix=Fix(
        "Puts the statement, and those that read what it binds, under a test of `__name__`.",
        is_safe=True,
    ),
)

MODEL_KNOWN_AT_RUN_TIME = Rule(
    code="KIT508",
    name="model-known-at-run-time",
    severity="note",
    what="The source does not show which model a call uses.",
    why=(
        "A step has only the libraries for the models named in the code and in "
        "[tool.kitaru.models]. The call fails in the step if its model needs another library."
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

REQUIREMENT_WITHOUT_HASH = Rule(
    code="KIT509",
    name="requirement-without-hash",
    severity="note",
    what="The hash of a requirement's files is in none of the project's lists.",
    why=(
        "A container checks each file that it installs against the hashes of the project's lock"
        " or requirements file. Without one it installs any file that the index has under that"
        " version. `require_hashes = true` in [tool.kitaru] refuses to compile such a flow."
    ),
    bad="pandas==2.2.3",
    good="""\
pandas==2.2.3 \\
    --hash=sha256:4f18ba62b61d7e192368b84517265a99b4d7ee8912f8708660fb4a366cc82667
""",
)

IMAGE_WITHOUT_DIGEST = Rule(
    code="KIT510",
    name="image-without-digest",
    severity="note",
    what="The image of a flow is named by a tag only.",
    why=(
        "A tag can be moved to another image, so that tomorrow's steps run other code. A digest"
        " names one image for ever."
    ),
    bad="""\
@flow(image="registry.example/agents:1.4")
def main(topic: str) -> str:
    return draft(topic)
""",
    good="""\
@flow(image="registry.example/agents:1.4@sha256:7c1c…")
def main(topic: str) -> str:
    return draft(topic)
""",
)

REQUIREMENT_NOT_IN_INDEX = Rule(
    code="KIT511",
    name="requirement-not-in-index",
    severity="warning",
    what="A requirement comes from a repository, an address or a file, and not from an index.",
    why=(
        "A container installs by name and version. In an index that name may belong to somebody"
        " else, so a step installs nothing under it."
    ),
    bad="""\
[tool.uv.sources]
pricing = { git = "https://git.example/pricing" }
""",
    good="""\
[tool.uv.sources]
pricing = { index = "company" }
""",
)
