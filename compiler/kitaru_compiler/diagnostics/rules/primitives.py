"""Rules about misused primitives of the Kitaru API."""

from kitaru_compiler.diagnostics.model import Fix, Rule

WAIT_IN_CHECKPOINT = Rule(
    code="KIT401",
    name="wait-in-checkpoint",
    severity="error",
    what="A wait, a sleep, `kitaru.now` or a memory operation is called in a checkpoint.",
    why=(
        "A checkpoint is ordinary Python with a recorded result. It cannot suspend the "
        "execution, and the value that it reads would differ between attempts."
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
        "The inner result would be part of the outer one, and would be lost when the outer "
        "checkpoint runs again."
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
        "A checkpoint is one recorded unit, and a flow consists of checkpoints. A flow that is "
        "called in a flow's body runs as a part of that execution."
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
    what="The future of a `.submit()` or `.map()` is never read.",
    why=(
        "The flow still waits for the call before it ends. A failure then fails the flow at its "
        "end, where no `try` of the flow can catch it. If that is intended, start the "
        "variable's name with `_`."
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
    fix=Fix("Adds `.result()`: the flow waits for the call there.", is_safe=False),
)

CHECKPOINT_AWAITED = Rule(
    code="KIT405",
    name="checkpoint-awaited",
    severity="error",
    what="The call of a checkpoint is awaited, or passed to an event loop, and returns its result.",
    why=(
        "The call of an async checkpoint returns a coroutine only in a coroutine. In a plain flow "
        "it returns its result: Kitaru runs the coroutine. The call of a plain checkpoint returns "
        "its result everywhere. An event loop rejects a value that is not a coroutine."
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
    fix=Fix("Removes `await` or `asyncio.run(…)` around the call.", is_safe=True),
)

MODEL_CALL_REFUSED = Rule(
    code="KIT406",
    name="model-call-refused",
    severity="error",
    what="`kitaru.llm` is called with both tools and a schema.",
    why=(
        "A call with tools returns a `kitaru.Reply`, and a call with a schema returns an "
        "instance. A call with both is rejected when it is made, in the middle of a run."
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
    what="The option `pickle` of `@checkpoint` is neither `True` nor `False`.",
    why=(
        "Loading a pickle runs code. Every reader of the source, and every step of the "
        "pipeline, must know which checkpoints allow it without running anything."
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
        "function, under an `if` or in an `except` may not have run by then, and the value "
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
    what="The arguments of a call of Kitaru, a flow or a checkpoint do not match its signature.",
    why=(
        "Python raises TypeError when the call is made: at import for a decorator, otherwise in "
        "the middle of a run, after earlier steps were paid for."
    ),
    bad="""\
@checkpoint(retrys=3)
def draft(topic: str) -> str: ...
""",
    good="""\
@checkpoint(retries=3)
def draft(topic: str) -> str: ...
""",
    fix=Fix("Renames a keyword argument to the parameter that was probably meant.", is_safe=False),
)

UNKNOWN_NAME = Rule(
    code="KIT412",
    name="unknown-name",
    severity="error",
    what="The source uses a name that does not exist in Kitaru, or in one of its objects.",
    why=(
        "Python raises ImportError when the file is imported, or AttributeError when the line "
        "is reached, which may be hours into a run."
    ),
    bad="""\
@flow
def main(topic: str) -> str:
    kitaru.pause(3)
    return topic
""",
    good="""\
@flow
def main(topic: str) -> str:
    kitaru.sleep(3)
    return topic
""",
    fix=Fix("Writes the name that was probably meant.", is_safe=False),
)

WRONG_ARGUMENT_TYPE = Rule(
    code="KIT413",
    name="wrong-argument-type",
    severity="error",
    what="A literal argument of a call of Kitaru has a wrong type.",
    why=(
        "The value is rejected when the call is made: at import for a decorator, otherwise in "
        "the middle of a run."
    ),
    bad="""\
@checkpoint(retries="3")
def draft(topic: str) -> str: ...
""",
    good="""\
@checkpoint(retries=3)
def draft(topic: str) -> str: ...
""",
    fix=Fix("Writes a number for its text, and seconds for a `timedelta`.", is_safe=True),
)

BLOCKING_IN_ASYNC_FLOW = Rule(
    code="KIT415",
    name="blocking-in-async-flow",
    severity="warning",
    what="An async flow calls `kitaru.wait`, `sleep`, `llm` or `memory`, which block.",
    why=(
        "The call blocks the event loop, and with it all other tasks of the flow. `kitaru.aio` has "
        "the same functions as coroutines."
    ),
    bad="""\
@flow
async def main(text: str):
    return kitaru.wait(name="ok")
""",
    good="""\
@flow
async def main(text: str):
    return await kitaru.aio.wait(name="ok")
""",
    fix=Fix("Awaits the function of `kitaru.aio`.", is_safe=True),
)

WAIT_BLOCKS_TASKS = Rule(
    code="KIT416",
    name="wait-blocks-tasks",
    severity="error",
    what="An async flow that makes tasks calls `kitaru.wait` or `sleep`, which block them.",
    why=(
        "The process ends when a flow waits, and with it the tasks that run beside the wait. An "
        "awaited wait suspends its own task only: the execution waits when no other task can "
        "continue."
    ),
    bad="""\
@flow
async def main(text: str):
    drafting = asyncio.create_task(draft(text))
    ok = kitaru.wait(name="ok")
    return ok and await drafting
""",
    good="""\
@flow
async def main(text: str):
    drafting = asyncio.create_task(draft(text))
    ok = await kitaru.aio.wait(name="ok")
    return ok and await drafting
""",
    fix=Fix("Awaits the function of `kitaru.aio`.", is_safe=True),
)

CALL_NEVER_AWAITED = Rule(
    code="KIT417",
    name="call-never-awaited",
    severity="error",
    what="The call of an async checkpoint or function is a statement of its own, not awaited.",
    why="The call returns a coroutine. Nothing of it runs, and nothing is recorded.",
    bad="""\
@flow
async def main(text: str) -> str:
    publish(text)
    return text
""",
    good="""\
@flow
async def main(text: str) -> str:
    await publish(text)
    return text
""",
)

LONG_POLLING = Rule(
    code="KIT414",
    name="long-polling",
    severity="warning",
    what="`kitaru.wait` polls for the answer for more than ten minutes before it suspends.",
    why=(
        "`timeout` is not a deadline. It is how long the process and its container stay up for "
        "the answer. A suspended execution waits as long as needed, and costs nothing."
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
    fix=Fix(
        "Removes `timeout`: the process ends at once, and the answer resumes the execution.",
        is_safe=False,
    ),
)
