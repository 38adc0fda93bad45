"""A chat agent: messages grow in place, the model asks for several tools at once."""

import json
from dataclasses import dataclass, field
from typing import Any

import kitaru
from kitaru import checkpoint, flow

PRICES = {"kayak": 640, "paddle": 85, "vest": 59}
SYSTEM = "You are a shop assistant."


@dataclass
class Call:
    tool: str
    arguments: dict[str, Any] = field(default_factory=dict)


@checkpoint(retries=2)
def think(messages: list[dict[str, str]]) -> dict[str, Any]:
    """Stand in for the model: ask for the tools that the conversation still needs."""
    asked = [m["content"] for m in messages if m["role"] == "user"][-1]
    seen = [m["name"] for m in messages if m["role"] == "tool"]
    if "price" not in seen:
        words = [w.strip("?,.") for w in asked.split()]
        calls = [{"tool": "price", "arguments": {"item": w}} for w in words if w in PRICES]
        return {"calls": [*calls, {"tool": "stock", "arguments": {"item": "kayak"}}]}
    if "total" not in seen:
        found = [json.loads(m["content"]) for m in messages if m.get("name") == "price"]
        return {"calls": [{"tool": "total", "arguments": {"prices": found}}]}
    total = [m["content"] for m in messages if m["name"] == "total"][0]
    return {"calls": [], "text": f"That is {total} altogether."}


@checkpoint
def price(item: str) -> int:
    return PRICES[item]


@checkpoint
def stock(item: str) -> int:
    if item not in PRICES:
        raise KeyError(item)
    return len(item)


@checkpoint
def total(prices: list[int]) -> int:
    return sum(prices)


TOOLS = {"price": price, "stock": stock, "total": total}


def run_tools(calls: list[Call], messages: list[dict[str, str]]) -> None:
    futures = [(call, TOOLS[call.tool].submit(**call.arguments)) for call in calls]
    for call, future in futures:
        try:
            content = json.dumps(future.result())
        except KeyError as error:
            content = f"error: {error}"
        messages.append({"role": "tool", "name": call.tool, "content": content})


@flow
def shop(question: str = "What are a kayak, a paddle and a vest?", limit: int = 6) -> str:
    messages = [
        {"role": "system", "name": "", "content": SYSTEM},
        {"role": "user", "name": "", "content": question},
    ]
    for _ in range(limit):
        answer = think(messages)
        if not answer["calls"]:
            break
        run_tools([Call(c["tool"], c["arguments"]) for c in answer["calls"]], messages)
    else:
        return f"gave up after {limit} rounds and {len(messages)} messages"
    kitaru.log(messages=len(messages), cost=f"{0.0012 * len(messages):.4f}")
    ok = kitaru.wait(name="send", question=f"Send “{answer['text']}”?", schema=bool)
    return answer["text"] if ok else "kept back"
