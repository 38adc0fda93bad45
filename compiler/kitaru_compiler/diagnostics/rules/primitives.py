"""Rules about misused primitives of the Kitaru API."""

from kitaru_compiler.diagnostics.model import Rule

WAIT_IN_CHECKPOINT = Rule(
    code="KIT401",
    name="wait-in-checkpoint",
    severity="error",
    what="A wait or a memory operation is called in a checkpoint.",
    why=(
        "A checkpoint is ordinary Python whose result is recorded; it cannot suspend the "
        "execution, and what it read would change from one attempt to the next."
    ),
    bad="""\
@checkpoint
def publish(text):
    if kitaru.wait(name="ok", schema=bool): ...
""",
    good="""\
@flow
def main(text: str):
    if kitaru.wait(name="ok", schema=bool):
        publish(text)
""",
)

NESTED_CHECKPOINT = Rule(
    code="KIT402",
    name="nested-checkpoint",
    severity="error",
    what="A checkpoint is called in a checkpoint.",
    why=(
        "The inner result would be recorded as part of the outer one, and be lost when the outer "
        "one runs again."
    ),
    bad="""\
@checkpoint
def outer(x): return inner(x)
""",
    good="""\
@flow
def main(x: int): return outer(inner(x))
""",
)

FLOW_IN_CHECKPOINT = Rule(
    code="KIT403",
    name="flow-in-checkpoint",
    severity="error",
    what="A flow is called in a checkpoint.",
    why=(
        "A checkpoint is one recorded unit; a flow consists of checkpoints. Called in a flow's "
        "body, a flow runs as a part of that execution."
    ),
    bad="""\
@checkpoint
def work(x: int): return other(x)
""",
    good="""\
@flow
def main(x: int): return other(x)  # its checkpoints are this execution's
""",
)

FUTURE_NEVER_READ = Rule(
    code="KIT404",
    name="future-never-read",
    severity="note",
    what="Nothing reads the future that a `.submit()` or `.map()` gave.",
    why=(
        "The flow waits for it before it ends all the same, and its failure fails the flow there,"
        " where no `try` of the flow can catch it. A name that starts with `_` says that this is "
        "meant."
    ),
    bad="""\
publish.submit(text)
return text
""",
    good="""\
done = publish.submit(text)
done.result()
return text
""",
)

CHECKPOINT_AWAITED = Rule(
    code="KIT405",
    name="checkpoint-awaited",
    severity="error",
    what="A checkpoint's call is awaited, or given to an event loop.",
    why=(
        "Called from a flow, a checkpoint gives its result, also when it is async: Kitaru runs its "
        "coroutine. An event loop refuses what is no coroutine. What should run side by side is "
        "started with `.submit()`."
    ),
    bad="""\
@flow
def main(topic: str) -> str:
    return asyncio.run(research(topic))
""",
    good="""\
@flow
def main(topic: str) -> str:
    return research(topic)  # also when research is async
""",
)

MODEL_CALL_REFUSED = Rule(
    code="KIT406",
    name="model-call-refused",
    severity="error",
    what="`kitaru.llm` is called with both tools and a schema.",
    why=(
        "A model either asks for tools or answers in a shape, so that a call returns either a "
        "`kitaru.Reply` or an instance. Both together are refused when the call is made, in the "
        "middle of a run."
    ),
    bad="""\
@flow
def main(topic: str) -> str:
    return kitaru.llm(topic, tools=TOOLS, schema=Answer)
""",
    good="""\
@flow
def main(topic: str) -> str:
    found = kitaru.llm(topic, tools=TOOLS)
    return kitaru.llm(found.text, schema=Answer)
""",
)

PICKLE_NOT_LITERAL = Rule(
    code="KIT407",
    name="pickle-not-literal",
    severity="error",
    what="What `@checkpoint` says of `pickle` is neither `True` nor `False`.",
    why=(
        "A pickle runs code when it is loaded. Every reader of the source, and every step of the "
        "pipeline, must see which checkpoints allow that, without running anything."
    ),
    bad="""\
@checkpoint(pickle=os.environ["TRUSTED"] == "1")
def fit(rows: list[float]) -> object:
    return build_value(rows)
""",
    good="""\
@checkpoint(pickle=True)
def fit(rows: list[float]) -> object:
    return build_value(rows)
""",
)

CODEC_REGISTERED_LATE = Rule(
    code="KIT408",
    name="codec-registered-late",
    severity="warning",
    what="`kitaru.register_codec` is called in a function or in a branch.",
    why=(
        "A step imports the modules that register codecs before it decodes a value. A call in a "
        "function, under an `if` or in an `except` may not have been made by then, and the value "
        "cannot be read."
    ),
    bad="""\
class Money: ...

def set_up() -> None:
    kitaru.register_codec(Money, name="acme.money", encode=vars, decode=build_value)

@checkpoint
def price(item: str) -> Money:
    return Money()
""",
    good="""\
class Money: ...

kitaru.register_codec(Money, name="acme.money", encode=vars, decode=build_value)

@checkpoint
def price(item: str) -> Money:
    return Money()
""",
)

WRONG_ARGUMENTS = Rule(
    code="KIT411",
    name="wrong-arguments",
    severity="error",
    what="A call of Kitaru, a flow or a checkpoint has arguments that do not fit its signature.",
    why=(
        "Python raises TypeError where the call is made: at import for a decorator, and in the "
        "middle of a run for anything else, after earlier steps were paid for."
    ),
    bad="""\
@checkpoint(retrys=3)
def draft(topic: str) -> str: ...
""",
    good="""\
@checkpoint(retries=3)
def draft(topic: str) -> str: ...
""",
)

UNKNOWN_NAME = Rule(
    code="KIT412",
    name="unknown-name",
    severity="error",
    what="The source uses a name that Kitaru, or an object of it, does not have.",
    why=(
        "Python raises ImportError when the file is imported, or AttributeError when the line is "
        "reached, which may be hours into a run."
    ),
    bad="""\
@flow
def main(topic: str) -> str:
    kitaru.sleep(3)
    return topic
""",
    good="""\
@checkpoint
def pause(seconds: int) -> None:
    time.sleep(seconds)
""",
)

WRONG_ARGUMENT_TYPE = Rule(
    code="KIT413",
    name="wrong-argument-type",
    severity="error",
    what="A literal argument of a call of Kitaru has another type than the parameter.",
    why=(
        "The value is refused when the call is made: at import for a decorator, and in the middle "
        "of a run for anything else."
    ),
    bad="""\
@checkpoint(retries="3")
def draft(topic: str) -> str: ...
""",
    good="""\
@checkpoint(retries=3)
def draft(topic: str) -> str: ...
""",
)

LONG_POLLING = Rule(
    code="KIT414",
    name="long-polling",
    severity="warning",
    what="`kitaru.wait` looks for the answer for more than ten minutes before it suspends.",
    why=(
        "`timeout` is not a deadline: it is how long the process, and the container it runs in, "
        "stay up for the answer. A suspended execution waits just as long and costs nothing."
    ),
    bad="""\
@flow
def main(text: str):
    return kitaru.wait(name="ok", timeout=172800)
""",
    good="""\
@flow
def main(text: str):
    return kitaru.wait(name="ok", timeout=60)
""",
)
