"""Ordinary agent flows: triage, ETL, tool loops."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import kitaru
from kitaru import checkpoint, flow


@checkpoint
def load_tickets(source: str) -> list:
    return [{"id": 1, "text": "refund"}, {"id": 2, "text": "crash"}]


@checkpoint
def classify(ticket: dict) -> str:
    return "billing" if "refund" in ticket["text"] else "bug"


@checkpoint
def refund(ticket: dict) -> str:
    return f"refunded {ticket['id']}"


@checkpoint
def file_bug(ticket: dict) -> str:
    return f"filed {ticket['id']}"


@checkpoint
def reply(ticket: dict, text: str) -> str:
    return f"{ticket['id']}: {text}"


@checkpoint
def extract(source: str) -> list:
    return [1, 2, 3]


@checkpoint
def transform(row: int) -> int:
    return row * 2


@checkpoint
def validate(rows: list) -> list:
    return [r for r in rows if r]


@checkpoint
def store(rows: list, where: str) -> int:
    return len(rows)


@checkpoint
def next_action(messages: list) -> dict:
    if len(messages) > 2:
        return {"tool": "", "answer": "done"}
    return {"tool": "search", "args": {"query": "x"}}


@checkpoint
def web(query: str) -> str:
    return "found " + query


@checkpoint
def calculate(query: str) -> str:
    return "42"


TOOLS = {"search": web, "calculate": calculate}


@flow
def triage(source: str = "inbox") -> list:
    out = []
    for ticket in load_tickets(source):
        kind = classify(ticket)
        if kind == "billing":
            out.append(refund(ticket))
        else:
            out.append(file_bug(ticket))
    return out


@flow
def triage_one(text: str = "refund") -> str:
    ticket = {"id": 1, "text": text}
    match classify(ticket):
        case "billing":
            outcome = refund(ticket)
        case "bug":
            outcome = file_bug(ticket)
        case _:
            outcome = "ignored"
    return reply(ticket, outcome)


@flow
def triage_parallel(source: str = "inbox") -> dict:
    tickets = load_tickets(source)
    kinds = classify.map(tickets).result()
    handles = [
        refund.submit(t) if kind == "billing" else file_bug.submit(t)
        for t, kind in zip(tickets, kinds)
    ]
    return dict(zip([t["id"] for t in tickets], [h.result() for h in handles]))


@flow
def etl(source: str = "s3://x") -> int:
    rows = extract(source)
    changed = transform.map(rows)
    good = validate([c for c in changed.result()])
    return store(good, "warehouse")


@flow
def etl_two_sources() -> dict:
    left, right = extract.submit("a"), extract.submit("b")
    rows = left.result() + right.result()
    good = validate([transform(r) for r in rows])
    return {"stored": store(good, "warehouse"), "seen": len(rows)}


@flow
def etl_chunks(source: str = "x", size: int = 2) -> int:
    rows = extract(source)
    chunks = [rows[i : i + size] for i in range(0, len(rows), size)]
    total = 0
    for chunk in chunks:
        done = [transform.submit(row) for row in chunk]
        total += store([d.result() for d in done], "db")
    return total


@flow
def tool_loop(task: str = "x") -> str:
    messages = [{"role": "user", "content": task}]
    for _ in range(5):
        action = next_action(messages)
        if not action["tool"]:
            return action["answer"]
        tool = TOOLS[action["tool"]]
        try:
            result = tool(**action["args"])
        except Exception as error:
            result = f"error: {error}"
        messages.append({"role": "tool", "content": result})
    return "gave up"


@flow
def tool_loop_while(task: str = "x") -> str:
    messages = [{"role": "user", "content": task}]
    while True:
        action = next_action(messages)
        if not action["tool"]:
            break
        match action["tool"]:
            case "search":
                result = web(**action["args"])
            case _:
                result = calculate(**action["args"])
        messages.append({"role": "tool", "content": result})
    return action["answer"]


@dataclass
class State:
    messages: list = field(default_factory=list)
    facts: dict = field(default_factory=dict)

    def remember(self, key, value):
        self.facts[key] = value
        return value


@flow
def stateful(task: str = "x") -> str:
    state = State()
    state.messages.append(task)
    state.remember("web", web(task))
    state.remember("calc", calculate(task))
    out = {name: tool for name, tool in state.facts.items()}
    return reply({"id": 1}, json.dumps(out))


@flow
def table_once(query: str = "x") -> str:
    out = {}
    for name in ("search", "calculate"):
        out[name] = TOOLS[name](query)
    saved = store([json.dumps(out)], "log")
    return reply({"id": saved}, json.dumps(out))


class Agent:
    def __init__(self, name: str) -> None:
        self.name = name

    @checkpoint
    def think(self, task: str) -> str:
        return f"{self.name} thinks {task}"

    @staticmethod
    @checkpoint
    def score(text: str) -> int:
        return len(text)

    def run(self, task: str) -> str:
        thought = self.think(task)
        if self.score(thought) < 5:
            thought = self.think(thought)
        return thought


@flow
def team(task: str = "x") -> str:
    writer, critic = Agent("writer"), Agent("critic")
    text = writer.run(task)
    remarks = critic.think(text)
    return reply({"id": Agent.score(remarks)}, remarks)


@flow
def team_list(task: str = "x") -> list:
    agents = [Agent("a"), Agent("b")]
    thoughts = [agent.think(task) for agent in agents]
    futures = [reply.submit({"id": n}, t) for n, t in enumerate(thoughts)]
    return [f.result() for f in futures]
