"""Rules about control flow that stays together or guards a cut."""

from kitaru_compiler.diagnostics.model import Rule

WHILE_STAYS_TOGETHER = Rule(
    code="KIT310",
    name="while-stays-together",
    severity="note",
    what="A `while` loop with checkpoints stays in one step.",
    why=(
        "How often it runs depends on results, and no orchestrator of ours can loop natively. "
        "Each checkpoint inside is still recorded on its own, so a crash loses at most the one in"
        " flight."
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
        "It runs over a value known only at run time, has too many rounds to be written out, or is "
        "left through a `finally`. Each checkpoint inside is still recorded on its own."
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
    what="A `try` statement with checkpoints stays in one step.",
    why=(
        "The handler must see what the body raises, and an exception does not cross from one "
        "container to the next. A failure that is caught is recorded, and raised again the same "
        "way on every replay."
    ),
    bad="""\
try:
    text = draft(brief)
except ValueError:
    text = fallback(brief)
""",
    good="text = draft(brief)  # with @checkpoint(retries=2)",
)

WITH_STAYS_TOGETHER = Rule(
    code="KIT313",
    name="with-stays-together",
    severity="note",
    what="A `with` block with checkpoints stays in one step.",
    why="What it opens (a file, a lock, a connection) lives in one process.",
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
        "It runs over a value known only at run time; a generator even runs its checkpoints only "
        "when something reads it."
    ),
    bad="notes = [research(t) for t in topics]",
    good="notes = research.map(topics)  # side by side, results in order",
)

MATCH_STAYS_TOGETHER = Rule(
    code="KIT315",
    name="match-stays-together",
    severity="note",
    what="A `match` statement with a checkpoint in a guard stays in one step.",
    why=(
        "Patterns and guards are asked in one go, and which guard is asked depends on the patterns "
        "before it. Checkpoints in the bodies of the cases alone are cut."
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
    what=(
        "A call to a function that itself calls checkpoints stays in one step: it cannot be written"
        " out where it is called."
    ),
    why=(
        "Such a function is cut like the flow's own body when it is certain which one is called and"
        " with which arguments. A function that calls itself, is decorated, async or a generator,"
        " sees its own frame, takes any number of arguments, or needs a default that is one object"
        " for all calls, is called as it is; its checkpoints are recorded one by one all the same."
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
        "A function defined in the flow's body calls checkpoints; what follows stays in one step, "
        "up to its last call."
    ),
    why="Its variables live in the running function, which does not cross a cut.",
    bad="""\
@flow
def main(topic: str):
    def ask(q): return answer(q, topic)
    return ask("why?")
""",
    good="""\
@flow
def main(topic: str):
    return answer("why?", topic)
""",
)

CLOSURE_OVER_CHANGING_VARIABLE = Rule(
    code="KIT318",
    name="closure-over-changing-variable",
    severity="note",
    what=(
        "A function, lambda, generator or class captures a variable of the flow that changes; the"
        " rest of the flow stays in one step."
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
        "The flow uses `global`, `locals()`, `eval` or the like; the whole flow stays in one step."
    ),
    why=(
        "Generated functions have other frames and names than the user's function, and this code "
        "could tell."
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
    what="Submitted checkpoints run beside other work, or side by side within one step.",
    why=(
        "What is submitted and then gathered becomes nodes of its own. Where the flow calls another"
        " checkpoint before it asks for the results, that one runs beside them, and a cut would"
        " wait first. So all of it stays in one step, on threads, each result recorded on its own."
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
    what=(
        "A checkpoint is called where its order among the other expressions cannot be written down."
    ),
    why="Lambdas, asserts, format specifications and the like run it lazily or not at all.",
    bad='assert good(text), "bad draft"',
    good="""\
ok = good(text)
assert ok, "bad draft"
""",
)

GUARDS_DECIDE = Rule(
    code="KIT322",
    name="guards-decide",
    severity="note",
    what="No one step decides a branch, so steps of it start and ask their own guard.",
    why=(
        "A native condition needs one step that decides. Here the test follows a join, or a loop "
        "may have been left before it, and it is computed at the end of whichever step came last: "
        "in each arm the first step starts, and decides for the others. Deeper than the target "
        "nests conditions, each step starts."
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
        "Which checkpoint runs is known only at run time, so no single step can be made for it; "
        "its call is still recorded under its own name."
    ),
    bad="""\
TOOLS = {"search": search, "calc": calc}

result = TOOLS[name](query)
""",
    good="""\
if name == "search":
    result = search(query)
else:
    result = calc(query)
""",
)

TOO_MANY_STEPS = Rule(
    code="KIT324",
    name="too-many-steps",
    severity="note",
    what="The flow calls more checkpoints than a pipeline has room for; it stays in one step.",
    why=(
        "Each call that is cut is a container and a node in the orchestrator's console, and every "
        "variable that lives across them is carried past each one. Every call is still recorded "
        "on its own, so a crash loses at most the one in flight."
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
    what="A part of the compiler failed on this flow; the flow is compiled without it.",
    why=(
        "This is a fault of Kitaru and not of the flow. Where a pass failed, the whole flow stays "
        "in one step, in which its own function runs as it is: the pipeline is correct, and every "
        "call is recorded on its own. Where a check failed, only its findings are missing. Please "
        "report the note; with the environment variable KITARU_TRACEBACK=1 the command stops with "
        "the traceback instead."
    ),
    bad="",
    good="KITARU_TRACEBACK=1 kitaru check flows.py:main",
)

UNREACHABLE_CODE = Rule(
    code="KIT330",
    name="unreachable-code",
    severity="warning",
    what="Code of the flow follows a `return`, `raise`, `break` or `continue` and never runs.",
    why="No step is made for it; a checkpoint or a wait that stands there will never be reached.",
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
)

CLEANUP_AROUND_WAIT = Rule(
    code="KIT331",
    name="cleanup-around-wait",
    severity="note",
    what="A `finally`, a `with` or a handler for everything stands around a wait.",
    why=(
        "When a flow suspends its process ends right there: nothing is unwound, as if the wait had "
        "not returned yet, which may take days. What is cleaned up after the wait is cleaned up "
        "after the answer; until then a lease or a lock in another system stays taken. Resuming "
        "runs the code before the wait again, except for what is recorded."
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
