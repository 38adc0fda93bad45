"""Rules about the data that crosses a cut."""

from kitaru_compiler.diagnostics.model import Fix, Rule

LOCAL_FUNCTION_CROSSES = Rule(
    code="KIT201",
    name="local-function-crosses",
    severity="note",
    what="A function or class defined in the flow's body is still needed after a cut.",
    why=(
        "Local functions are never defined a second time: that would run their defaults and "
        "decorators twice, and create another object. So the cut is not made at run time, and "
        "the steps share a process."
    ),
    bad="""\
@flow
def main(text: str):
    def shorten(s): return s[:10]
    notes = research(text)
    return shorten(draft(notes))
""",
    good="""\
def shorten(s): return s[:10]

@flow
def main(text: str):
    notes = research(text)
    return shorten(draft(notes))
""",
)

CLOCK_IN_FLOW = Rule(
    code="KIT202",
    name="clock-in-flow",
    severity="warning",
    what="The flow's body reads the clock.",
    why=(
        "The body runs again on every resume, and its parts run in separate processes. Each "
        "would read another time. The result of a checkpoint is recorded and stays the same."
    ),
    bad="""\
@flow
def main() -> str:
    return report(datetime.now().isoformat())
""",
    good="""\
@checkpoint
def now() -> str:
    return datetime.now().isoformat()

@flow
def main() -> str:
    return report(now())
""",
    fix=Fix("Moves the expression to a new checkpoint, which adds a step.", is_safe=False),
)

RANDOM_IN_FLOW = Rule(
    code="KIT203",
    name="random-in-flow",
    severity="warning",
    what="The flow's body generates a random number, a UUID or a token.",
    why=(
        "The body runs again on every resume, and would generate another value. A checkpoint "
        "that receives it would be called with other arguments than recorded. The state of a "
        "random generator does not cross to another process either."
    ),
    bad="""\
@flow
def main() -> str:
    return publish(str(uuid.uuid4()))
""",
    good="""\
@checkpoint
def new_id() -> str:
    return str(uuid.uuid4())

@flow
def main() -> str:
    return publish(new_id())
""",
    fix=Fix("Moves the expression to a new checkpoint, which adds a step.", is_safe=False),
)

ENVIRONMENT_IN_FLOW = Rule(
    code="KIT204",
    name="environment-in-flow",
    severity="warning",
    what=(
        "The flow's body reads the environment of its process: a variable, the working "
        "directory, the host name."
    ),
    why=(
        "Each step runs in its own container, and a resume may run on another machine. Each may "
        "read another value, and the flow would take another path than before."
    ),
    bad="""\
@flow
def main(topic: str) -> str:
    return research(topic, os.environ["REGION"])
""",
    good="""\
@flow
def main(topic: str, region: str) -> str:
    return research(topic, region)
""",
)

FILE_IN_FLOW = Rule(
    code="KIT205",
    name="file-in-flow",
    severity="warning",
    what="The flow's body reads a file or a directory.",
    why=(
        "Each step has its own disk, and a resume may read other contents. The result of a "
        "checkpoint is recorded."
    ),
    bad="""\
@flow
def main(path: str) -> str:
    return summarise(open(path).read())
""",
    good="""\
@checkpoint
def load(path: str) -> str:
    return Path(path).read_text()

@flow
def main(path: str) -> str:
    return summarise(load(path))
""",
    fix=Fix(
        "Moves the expression to a new checkpoint, which adds a step and records the content.",
        is_safe=False,
    ),
)

MUTABLE_DEFAULT = Rule(
    code="KIT206",
    name="mutable-default",
    severity="warning",
    what="A list, dict or set is the default of an input of a flow or a checkpoint.",
    why=(
        "Python creates the default once, and all calls in a process share it. A change by one "
        "call is visible to the next one only if both run in the same process. Then the result "
        "depends on where the flow was cut."
    ),
    bad="""\
@checkpoint
def collect(item: str, seen: list[str] = []) -> list[str]: ...
""",
    good="""\
@checkpoint
def collect(item: str, seen: list[str] | None = None) -> list[str]:
    seen = seen or []
    ...
""",
    fix=Fix(
        "Makes the default in the body: each call has its own, where calls shared one before.",
        is_safe=False,
    ),
)

GLOBAL_CHANGED = Rule(
    code="KIT207",
    name="global-changed",
    severity="warning",
    what="A checkpoint changes a variable of its module.",
    why=(
        "A recorded checkpoint does not run again. After a resume, or in the next step's "
        "process, the change is missing. Only the result of a checkpoint is passed on."
    ),
    bad="""\
FOUND: list[str] = []

@checkpoint
def search(query: str) -> None:
    FOUND.append(query)
""",
    good="""\
@checkpoint
def search(query: str) -> list[str]:
    return [query]
""",
)

SET_ORDER = Rule(
    code="KIT208",
    name="set-order",
    severity="warning",
    what="The flow's body iterates over a set.",
    why=(
        "The order of a set of strings differs between processes. After a resume, the same "
        "calls would be made in another order, and would match each other's records."
    ),
    bad="""\
for name in set(names):
    greet(name)
""",
    good="""\
for name in sorted(set(names)):
    greet(name)
""",
    fix=Fix("Wraps the set in `sorted(…)`, which fails if its items have no order.", is_safe=False),
)

IDENTITY_OF_LITERAL = Rule(
    code="KIT209",
    name="identity-of-literal",
    severity="warning",
    what="The flow's body compares a value with a string or a number by `is`.",
    why=(
        "Equal strings and numbers are sometimes one object and sometimes not. No value is the "
        "same object after it crossed to another process."
    ),
    bad="""\
if kind is "spam":
    return "dropped"
""",
    good="""\
if kind == "spam":
    return "dropped"
""",
    fix=Fix(
        "Writes `==` for `is` and `!=` for `is not`; equal values of another type are equal too.",
        is_safe=False,
    ),
)

VALUE_CANNOT_CROSS = Rule(
    code="KIT210",
    name="value-cannot-cross",
    severity="warning",
    what="A variable contains an open file, a lock, an iterator or the like across a cut.",
    why=(
        "Such a value exists in one process only. So the steps on both sides of the cut share a "
        "process. If the later step needs a machine of its own, the run fails. After a resume, "
        "the value is created again: a file is read from its start, and a lock is free."
    ),
    bad="""\
@flow
def main(names: list[str], texts: list[str]) -> str:
    pairs = zip(names, texts)
    draft(names)
    return draft(dict(pairs))
""",
    good="""\
@flow
def main(names: list[str], texts: list[str]) -> str:
    pairs = list(zip(names, texts))
    draft(names)
    return draft(dict(pairs))
""",
    fix=Fix(
        "Reads an iterator at once, `list(…)`; binds a pattern or a logger at the top level.",
        is_safe=False,
    ),
)

ARGUMENT_RETURNED = Rule(
    code="KIT211",
    name="argument-returned",
    severity="warning",
    what="A checkpoint returns the list, dict or set that was passed to it.",
    why=(
        "The result of a checkpoint is recorded, and its caller gets a copy. In plain Python, "
        "argument and result would be one object, and a change of one would be visible in the "
        "other. Here it is not."
    ),
    bad="""\
@checkpoint
def checked(rows: list[str]) -> list[str]:
    print(len(rows))
    return rows
""",
    good="""\
@checkpoint
def checked(rows: list[str]) -> list[str]:
    return [row for row in rows if row]
""",
    fix=Fix("Returns a copy, which is another object in plain Python too.", is_safe=False),
)

ARGUMENT_CHANGED = Rule(
    code="KIT212",
    name="argument-changed",
    severity="warning",
    what="A checkpoint changes one of its arguments.",
    why=(
        "Arguments are copies. A recorded checkpoint does not run again, and a later step runs "
        "elsewhere, so the change would be missing. Kitaru detects the change after the call, "
        "and the checkpoint fails."
    ),
    bad="""\
@checkpoint
def collect(found: list[str], topic: str) -> None:
    found.append(topic)
""",
    good="""\
@checkpoint
def collect(found: list[str], topic: str) -> list[str]:
    return [*found, topic]
""",
)

PROCESS_CHANGED = Rule(
    code="KIT213",
    name="process-changed",
    severity="warning",
    what=(
        "The flow's body changes the state of its process: an environment variable, the working "
        "directory, the decimal context, the locale, a seed, an attribute of an installed "
        "module."
    ),
    why=(
        "Each step runs in its own process, and so does a resume. It starts without the change, "
        "and code that depends on the change computes something else."
    ),
    bad="""\
@flow
def main(amount: str) -> str:
    decimal.getcontext().prec = 5
    return bill(total(amount))
""",
    good="""\
decimal.getcontext().prec = 5

@flow
def main(amount: str) -> str:
    return bill(total(amount))
""",
    fix=Fix(
        "Moves the statement in front of the flow, where every import executes it.", is_safe=False
    ),
)

MODULE_STATE = Rule(
    code="KIT214",
    name="module-state",
    severity="note",
    what=(
        "The flow uses a module-level iterator, queue, connection or similar object twice, or "
        "sets a context variable."
    ),
    why=(
        "Its state cannot be passed to another process. So the code between its uses runs in "
        "one process: the cut is not made, and a resume starts with a new object. After a "
        "context variable is set, no cut is made until it has its first value again."
    ),
    bad="""\
IDS = itertools.count()

@flow
def main(topic: str) -> str:
    text = draft(topic, next(IDS))
    return check(text, next(IDS))
""",
    good="""\
@flow
def main(topic: str) -> str:
    text = draft(topic, 0)
    return check(text, 1)
""",
)
