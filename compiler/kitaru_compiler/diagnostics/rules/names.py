"""Rules about names, inputs and limits."""

from kitaru_compiler.diagnostics.model import Fix, Rule

VARIABLE_INPUTS = Rule(
    code="KIT601",
    name="variable-inputs",
    severity="error",
    what="The flow takes `*args` or `**kwargs`.",
    why="A pipeline's parameters are a fixed list of names.",
    bad="""\
@flow
def main(*topics: str): ...
""",
    good="""\
@flow
def main(topics: list[str]): ...
""",
)

RESERVED_INPUT = Rule(
    code="KIT602",
    name="reserved-input",
    severity="error",
    what="An input's name starts with `kitaru_`.",
    why="These names are reserved for the pipeline parameters that Kitaru adds.",
    bad="""\
@flow
def main(kitaru_store: str): ...
""",
    good="""\
@flow
def main(store: str): ...
""",
)

NAME_REFUSED = Rule(
    code="KIT603",
    name="name-refused",
    severity="error",
    what="The target does not accept the flow's name.",
    why=(
        "Each target limits the characters and the length of names. A name that was shortened "
        "or changed silently could collide with another one."
    ),
    bad="""\
@flow
def résumé_of_a_very_long_name(): ...
""",
    good="""\
@flow(name="resume")
def résumé(): ...
""",
    fix=Fix("Gives the decorator a `name=` of ASCII characters.", is_safe=False),
)

DUPLICATE_ID = Rule(
    code="KIT604",
    name="duplicate-id",
    severity="error",
    what="Two calls on one path through the flow have the same `id=`.",
    why="An id identifies one invocation of an execution, so the second call would stop the flow.",
    bad="""\
first = draft(brief, id="draft")
second = draft(first, id="draft")
""",
    good="""\
first = draft(brief, id="first_draft")
second = draft(first, id="second_draft")
""",
    fix=Fix("Adds a number to the second id.", is_safe=True),
)

NAME_NOT_ALLOWED = Rule(
    code="KIT605",
    name="name-not-allowed",
    severity="error",
    what="The name of a checkpoint, a wait or a call is not valid.",
    why=(
        "Names become parts of keys in the store and of names in the orchestrator. A name is a "
        "letter or underscore, then letters, digits, underscores or dashes. It is ASCII and has "
        "at most 100 characters."
    ),
    bad="""\
ok = kitaru.wait(name="approve draft?")
""",
    good="""\
ok = kitaru.wait(name="approve_draft", question="Approve draft?")
""",
    fix=Fix(
        "Replaces the characters that are not allowed. A wait keeps its text as the question.",
        is_safe=True,
    ),
)

BEYOND_A_LIMIT = Rule(
    code="KIT606",
    name="beyond-a-limit",
    severity="error",
    what="The compiled flow exceeds a limit of the target.",
    why=(
        "The service would reject the document, or fail one of its steps: too many inputs, a "
        "variable or argument that is too long, a machine that does not exist, a text that is "
        "too large."
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

TOO_MANY_STEPS = Rule(
    code="KIT607",
    name="too-many-steps",
    severity="note",
    what="The flow has more calls than a document of the target may have steps.",
    why=(
        "A cut that a target cannot express is not made. The code after the last possible step "
        "runs in that step. Each call in it is still recorded."
    ),
    bad="""\
for n in range(60):  # unrolled: 240 steps
    text = draft(n)
    publish(revise(clean(text)))
""",
    good="""\
def one(n):
    text = draft(n)
    publish(revise(clean(text)))

for n in list(range(60)):  # in one step
    one(n)
""",
)

INPUT_NAME_NOT_ALLOWED = Rule(
    code="KIT608",
    name="input-name-not-allowed",
    severity="error",
    what="The name of an input contains characters that are not ASCII.",
    why=(
        "An input becomes a parameter of the compiled pipeline. Orchestrators accept ASCII "
        "letters, digits and underscores in its name."
    ),
    bad="""\
@flow
def main(größe: int): ...
""",
    good="""\
@flow
def main(groesse: int): ...
""",
)
