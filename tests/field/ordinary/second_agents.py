"""Agents: research, tools, code review."""

import json
from dataclasses import asdict, dataclass, field

import kitaru
from kitaru import checkpoint, flow


@dataclass
class Finding:
    file: str
    severity: str
    text: str


@dataclass
class Memory:
    facts: list = field(default_factory=list)
    spent: int = 0

    def add(self, fact: str, cost: int = 1) -> None:
        self.facts.append(fact)
        self.spent += cost


@checkpoint
def plan(goal: str) -> list:
    return [f"look up {goal}", f"write about {goal}"]


@checkpoint
def think(messages: list) -> dict:
    if len(messages) > 3:
        return {"kind": "final", "text": "done"}
    return {"kind": "tool", "name": "search" if len(messages) < 3 else "read", "input": "x"}


@checkpoint
def search(query: str) -> str:
    return f"results for {query}"


@checkpoint
def read(query: str) -> str:
    return f"page {query}"


@checkpoint
def calculate(query: str) -> str:
    return "42"


@checkpoint
def write(goal: str, facts: list) -> str:
    return f"{goal}: " + "; ".join(facts)


@checkpoint
def judge(text: str) -> dict:
    return {"score": min(len(text) / 40, 1.0), "advice": "longer"}


@checkpoint
def improve(text: str, advice: str) -> str:
    return f"{text} ({advice})"


@checkpoint
def changed_files(change: int) -> list:
    return ["a.py", "b.md"]


@checkpoint
def diff_of(change: int, file: str) -> str:
    return f"diff of {file}"


@checkpoint
def review_file(file: str, diff: str) -> list:
    return [Finding(file, "high" if file.endswith(".py") else "low", diff)]


@checkpoint
def run_tests(change: int) -> bool:
    return change % 2 == 1


@checkpoint
def fix(change: int, problem: str) -> int:
    return change + 1


@checkpoint
def comment(change: int, text: str) -> str:
    return f"#{change}: {text}"


@checkpoint
def merge(change: int) -> str:
    return f"merged {change}"


TOOLS = {"search": search, "read": read, "calculate": calculate}


def describe(finding: Finding) -> str:
    return f"{finding.severity}: {finding.file}"


def refine(text: str, rounds: int = 2) -> str:
    for _ in range(2):
        verdict = judge(text)
        if verdict["score"] > 0.9:
            return text
        text = improve(text, verdict["advice"])
    return text


@flow
def one_tool(question: str = "what?") -> str:
    action = think([question])
    if action["kind"] == "final":
        return action["text"]
    observation = TOOLS[action["name"]](action["input"])
    return write(question, [observation])


@flow
def tool_agent(question: str = "what?") -> str:
    messages = [question]
    for step in range(4):
        action = think(messages)
        if action["kind"] == "final":
            return action["text"]
        if action["name"] not in TOOLS:
            messages.append(f"no tool {action['name']}")
            continue
        tool = TOOLS[action["name"]]
        observation = tool(action["input"])
        messages.append(observation)
    return f"stopped after {step + 1} steps"


@flow
def open_ended_agent(question: str = "what?", budget: int = 5) -> str:
    messages, spent = [question], 0
    while spent < budget:
        action = think(messages)
        spent += 1
        if action["kind"] == "final":
            return action["text"]
        messages.append(TOOLS[action["name"]](action["input"]))
    return "out of budget"


@flow
def research_plan(goal: str = "kayaks") -> str:
    memory = Memory()
    steps = plan(goal)
    results = search.map(steps).result()
    for step, result in zip(steps, results):
        memory.add(f"{step} → {result}", cost=2)
    text = write(goal, memory.facts)
    return json.dumps({"text": refine(text), "spent": memory.spent})


@flow
def research_deep(goal: str = "kayaks") -> str:
    facts = []
    for question in plan(goal):
        found = search(question)
        if "nothing" in found:
            continue
        facts.append(read(found))
    return write(goal, facts)


@flow
def debate(topic: str = "kayaks", rounds: int = 2) -> dict:
    pro, con = write(topic, ["pro"]), write(topic, ["con"])
    for _ in range(2):
        pro = improve(pro, con)
        con = improve(con, pro)
    scores = {name: judge(text)["score"] for name, text in (("pro", pro), ("con", con))}
    return {"winner": max(scores, key=scores.get), "scores": scores}


@flow
def best_of_three(goal: str = "kayaks") -> str:
    drafts = [write.submit(goal, [f"angle {n}"]) for n in range(3)]
    texts = [d.result() for d in drafts]
    verdicts = judge.map(texts).result()
    ranked = sorted(zip(texts, verdicts), key=lambda pair: pair[1]["score"], reverse=True)
    text, verdict = ranked[0]
    return improve(text, verdict["advice"]) if verdict["score"] < 0.8 else text


@flow
def review_change(change: int = 4) -> dict:
    files = changed_files(change)
    diffs = {f: diff_of.submit(change, f) for f in files if not f.endswith(".lock")}
    reviews = [review_file.submit(f, d.result()) for f, d in diffs.items()]
    findings = [one for r in reviews for one in r.result()]
    blocking = [f for f in findings if f.severity == "high"]
    if not blocking:
        return {"merged": merge(change), "findings": []}
    summary = "\n".join(f"- {describe(f)}" for f in blocking)
    return {"comment": comment(change, summary), "findings": [asdict(f) for f in findings]}


@flow
def review_one_by_one(change: int = 4) -> list:
    notes = []
    for file in changed_files(change):
        if file.endswith(".md"):
            continue
        for finding in review_file(file, diff_of(change, file)):
            notes.append(comment(change, describe(finding)))
    return notes


@flow
def repair(change: int = 4, limit: int = 3) -> str:
    for attempt in range(3):
        if run_tests(change):
            break
        change = fix(change, f"attempt {attempt}")
    else:
        comment(change, "tests still fail")
        return "failed"
    return merge(change)


@flow
def guarded_merge(change: int = 5) -> str:
    tests, files = run_tests.submit(change), changed_files.submit(change)
    if not tests.result():
        return comment(change, "tests fail")
    if len(files.result()) > 20 and not kitaru.wait(name="ok", schema=bool):
        return comment(change, "too large")
    return merge(change)


@flow
def summarise_with(style: str = "short") -> str:
    styles = {"short": lambda t: improve(t, "shorter"), "long": lambda t: improve(t, "longer")}
    text = write("kayaks", ["a fact"])
    return styles[style](text)


@flow
def checked_write(goal: str = "kayaks") -> str:
    check = lambda text: judge(text)["score"]
    text = write(goal, ["a"])
    if check(text) < 0.5:
        text = improve(text, "more")
    return f"{text} ({check(text):.2f})"
