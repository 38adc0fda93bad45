"""Rules about control flow that is not cut, or that guards a cut."""

from kitaru_compiler.diagnostics.model import Fix, Rule

WHILE_STAYS_TOGETHER = Rule(
    code="KIT310",
    name="while-stays-together",
    severity="note",
    what="A `while` loop with checkpoints stays in one step.",
    why=(
        "The number of rounds depends on results, and no supported orchestrator has native "
        "loops. Each checkpoint inside is still recorded on its own, so after a crash at most "
        "the running one runs again."
    ),
    bad="""\
while not good(text):
    text = revise(text)
""",
    good="""\
for _ in range(3):  # a constant bound is cut
    text = revise(text)
""",
)

FOR_STAYS_TOGETHER = Rule(
    code="KIT311",
    name="for-stays-together",
    severity="note",
    what="A `for` loop with checkpoints stays in one step.",
    why=(
        "The loop runs over a value that is known only at run time, has too many rounds to "
        "unroll, or is left through a `finally`. Each checkpoint inside is still recorded on "
        "its own."
    ),
    bad="""\
for topic in topics:
    notes.append(research(topic))
""",
    good="""\
for topic in ("a", "b"):  # a literal is cut, `break` and `continue` included
    notes.append(research(topic))
""",
)

TRY_STAYS_TOGETHER = Rule(
    code="KIT312",
    name="try-stays-together",
    severity="note",
    what="Several checkpoints in a `try` statement stay in one step.",
    why=(
        "The handler must receive what the body raises, and an exception does not cross from "
        "one container to the next. So a statement of the body that makes several calls stays "
        "together, and so does a body with a `finally`, and a handler that reads the exception "
        "after it has called a checkpoint. Otherwise the body is cut between its calls, and what "
        "a handler calls is cut. A caught failure is recorded, and every replay raises it again."
    ),
    bad="""\
try:
    text = draft(brief)
    text = polish(text)
finally:
    release(brief)
""",
    good="""\
try:
    text = draft(brief)
    text = polish(text)
except ValueError as error:
    text = fallback(brief)
release(brief)
""",
)

WITH_STAYS_TOGETHER = Rule(
    code="KIT313",
    name="with-stays-together",
    severity="note",
    what="A `with` block with checkpoints stays in one step.",
    why="The resource that it opens (a file, a lock, a connection) exists in one process only.",
    bad="""\
with open_client() as client:
    text = draft(client.read())
""",
    good="text = draft(read_all())  # the helper opens and closes the client",
)

COMPREHENSION_STAYS_TOGETHER = Rule(
    code="KIT314",
    name="comprehension-stays-together",
    severity="note",
    what="A comprehension or generator with checkpoints stays in one step.",
    why=(
        "It runs over a value that is known only at run time. A generator even runs its "
        "checkpoints only when it is read."
    ),
    bad="notes = [research(t) for t in topics]",
    good="notes = research.map(topics)  # side by side, results in order",
    fix=Fix(
        "Writes `.map(…).result()`: the calls run concurrently instead of one after the other.",
        is_safe=False,
    ),
)

MATCH_STAYS_TOGETHER = Rule(
    code="KIT315",
    name="match-stays-together",
    severity="note",
    what="A `match` statement with a checkpoint in a guard stays in one step.",
    why=(
        "Python evaluates patterns and guards together, and the patterns before a guard decide "
        "whether it is evaluated. If only the bodies of the cases contain checkpoints, these "
        "are cut."
    ),
    bad="""\
match ticket:
    case [kind, text] if urgent(text):
        escalate(ticket)
""",
    good="""\
hurry = urgent(ticket[1])
match ticket:
    case [kind, text] if hurry:
        escalate(ticket)
""",
)

HELPER_STAYS_TOGETHER = Rule(
    code="KIT316",
    name="helper-stays-together",
    severity="note",
    what="A call to a function that calls checkpoints stays in one step: it cannot be inlined.",
    why=(
        "Such a function is cut like the flow's own body if the compiler knows which function "
        "is called, and with which arguments. A function is called as a whole if it calls "
        "itself, is decorated or a generator, inspects its frame, accepts any number of "
        "arguments, or needs a default that all calls share, and if it is async in a flow that is "
        "not. Its checkpoints are still recorded one by one."
    ),
    bad="""\
def refine(text, rounds):
    if not rounds:
        return text
    return refine(revise(text), rounds - 1)

@flow
def main(topic: str):
    return refine(draft(topic), 3)
""",
    good="""\
def refine(text):
    return polish(revise(text))

@flow
def main(topic: str):
    return refine(draft(topic))
""",
)

LOCAL_FUNCTION_CALLS_CHECKPOINTS = Rule(
    code="KIT317",
    name="local-function-calls-checkpoints",
    severity="note",
    what=(
        "A function defined in the flow's body calls checkpoints. The code that follows stays "
        "in one step, up to the last call of that function."
    ),
    why=(
        "The function uses variables of the running flow, which do not cross a cut. A local "
        "function that is only called is cut at its calls instead. This one is stored, passed, "
        "decorated or a generator, assigns `nonlocal` variables, or may read a variable without "
        "a value."
    ),
    bad="""\
@flow
def main(topic: str):
    def ask(q): return answer(q, topic)
    return list(map(ask, ("why?", "how?")))
""",
    good="""\
@flow
def main(topic: str):
    def ask(q): return answer(q, topic)
    return [ask("why?"), ask("how?")]
""",
)

CLOSURE_OVER_CHANGING_VARIABLE = Rule(
    code="KIT318",
    name="closure-over-changing-variable",
    severity="note",
    what=(
        "A function, lambda, generator or class captures a variable of the flow that changes. "
        "The rest of the flow stays in one step."
    ),
    why=(
        "The captured variable is one shared cell, and a cell does not cross a cut: the closure "
        "would keep the old value."
    ),
    bad="""\
x = 1
f = lambda: x
text = draft(f())
x = 2
return f()
""",
    good="""\
x = 1
f = lambda x=x: x  # takes the value now
""",
)

FLOW_SEES_ITS_FRAME = Rule(
    code="KIT319",
    name="flow-sees-its-frame",
    severity="note",
    what=(
        "The flow uses `global`, `locals()`, `eval` or the like. The whole flow stays in one step."
    ),
    why=(
        "Generated functions have other frames and names than the user's function, and this "
        "code could observe the difference."
    ),
    bad="""\
total = 0

@flow
def main(n: int):
    global total
    total += count(n)
""",
    good="""\
@flow
def main(n: int) -> int:
    return count(n)
""",
)

WORK_BESIDE_SUBMITTED_CALLS = Rule(
    code="KIT320",
    name="work-beside-submitted-calls",
    severity="note",
    what="Submitted checkpoints run concurrently with other work, or side by side within one step.",
    why=(
        "Calls that are submitted and then gathered become nodes of their own. If the flow "
        "calls another checkpoint before it reads the first result, that checkpoint runs "
        "concurrently with them, and a cut would wait for them first. So all of it stays in one "
        "step, on threads. Each result is recorded on its own."
    ),
    bad="""\
words = count.submit(text)
parts = split(text)
return [words.result(), *draft.map(parts).result()]
""",
    good="""\
parts = split(text)
words = count.submit(text)
texts = draft.map(parts)
return [words.result(), *texts.result()]
""",
)

EXPRESSION_STAYS_TOGETHER = Rule(
    code="KIT321",
    name="expression-stays-together",
    severity="note",
    what="A checkpoint is called inside an expression that fixes no order of evaluation.",
    why=(
        "Lambdas, asserts, format specifications and the like evaluate the call lazily, or not "
        "at all."
    ),
    bad='assert good(text), "bad draft"',
    good="""\
ok = good(text)
assert ok, "bad draft"
""",
    fix=Fix(
        "Assigns what an `assert` calls to a variable first; `python -O` then calls it as well.",
        is_safe=False,
    ),
)

GUARDS_DECIDE = Rule(
    code="KIT322",
    name="guards-decide",
    severity="note",
    what="No single step decides a branch, so steps of the branch start and check their guards.",
    why=(
        "A native condition needs one step that decides. Here the test follows a join, or a "
        "loop may have been left early before it. So the step that ran last computes the test. "
        "In each arm, the first step starts and decides for the others. If conditions nest "
        "deeper than the target supports, every step starts."
    ),
    bad="""\
if a:
    x = first()
else:
    x = second()
if x:
    third(x)
""",
    good="""\
if a:
    x = first()
else:
    x = second()
x = settle(x)  # one step that always runs
if x:
    third(x)
""",
)

DYNAMIC_DISPATCH = Rule(
    code="KIT323",
    name="dynamic-dispatch",
    severity="note",
    what="A call may reach a checkpoint through a value, such as a table of tools.",
    why=(
        "The checkpoint is known only at run time, so it cannot become a step of its own. The "
        "call is still recorded under the checkpoint's name. A table of at most eight checkpoints "
        "that is written out, and that no code changes or passes on, is cut: each entry is an arm."
    ),
    bad="""\
TOOLS = {"search": search}
TOOLS["calc"] = calc

result = TOOLS[name](query)
""",
    good="""\
TOOLS = {"search": search, "calc": calc}

@flow
def main(name: str, query: str):
    return TOOLS[name](query)
""",
)

TOO_MANY_STEPS = Rule(
    code="KIT324",
    name="too-many-steps",
    severity="note",
    what="The flow calls more checkpoints than a pipeline can have nodes. It stays in one step.",
    why=(
        "Each call that is cut becomes a container and a node in the orchestrator's console, "
        "and every live variable crosses each cut. Every call is still recorded on its own, so "
        "after a crash at most the running one runs again."
    ),
    bad="""\
@flow
def main(a: str):
    a = clean(a)
    ...  # two thousand calls more
""",
    good="""\
@flow
def main(items: list[str]):
    for item in items:  # one step, any number of calls
        clean(item)
""",
)

INTERNAL_FAULT = Rule(
    code="KIT325",
    name="internal-fault",
    severity="note",
    what="A part of the compiler failed on this flow. The flow is compiled without that part.",
    why=(
        "This is a bug in Kitaru, not in the flow. If a pass failed, the whole flow stays in "
        "one step that runs its own function unchanged. The pipeline is correct, and every call "
        "is recorded on its own. If a check failed, only its findings are missing. Please "
        "report the note. With KITARU_TRACEBACK=1 in the environment, the command stops with "
        "the traceback."
    ),
    bad="",
    good="KITARU_TRACEBACK=1 kitaru check flows.py:main",
)

TASKS_STAY_TOGETHER = Rule(
    code="KIT326",
    name="tasks-stay-together",
    severity="note",
    what="Tasks and coroutines of an async flow stay in one step, up to their last use.",
    why=(
        "A call that is not awaited where it is written runs later, beside other code, and a task "
        "ends with its process. `await` of a call, `await asyncio.gather(…)` of calls of "
        "checkpoints, and a `TaskGroup` of such calls are cut. Each checkpoint inside is still "
        "recorded on its own."
    ),
    bad="""\
@flow
async def main(topic: str) -> list[str]:
    drafting = asyncio.create_task(draft(topic))
    checked = await check(topic)
    return [await drafting, checked]
""",
    good="""\
@flow
async def main(topic: str) -> list[str]:
    return await asyncio.gather(draft(topic), check(topic))
""",
)

UNREACHABLE_CODE = Rule(
    code="KIT330",
    name="unreachable-code",
    severity="warning",
    what="Code of the flow follows a `return`, `raise`, `break` or `continue` and never runs.",
    why="The code gets no step. A checkpoint or a wait in it is never reached.",
    bad="""\
@flow
def main(topic: str) -> str:
    return draft(topic)
    publish(topic)
""",
    good="""\
@flow
def main(topic: str) -> str:
    text = draft(topic)
    publish(text)
    return text
""",
    fix=Fix("Removes the statements that never run.", is_safe=False),
)

CLEANUP_AROUND_WAIT = Rule(
    code="KIT331",
    name="cleanup-around-wait",
    severity="note",
    what="A wait is inside a `finally`, a `with`, or a handler for all exceptions.",
    why=(
        "When a flow suspends, its process ends without unwinding, as if the wait had not "
        "returned. That may take days. Cleanup after the wait runs only after the answer. Until "
        "then, a lease or a lock in another system stays taken. A resume runs the code before "
        "the wait again, except for recorded calls."
    ),
    bad="""\
@flow
def main(text: str) -> str:
    try:
        ok = kitaru.wait(name="ok")
    finally:
        release(text)
    return draft(text) if ok else text
""",
    good="""\
@flow
def main(text: str) -> str:
    release(text)
    ok = kitaru.wait(name="ok")
    return draft(text) if ok else text
""",
)
