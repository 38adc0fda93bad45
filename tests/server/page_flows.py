"""Flows for the pages, with texts that try to look like a part of a page."""

from __future__ import annotations

import sys
from typing import Any, Literal

from pydantic import BaseModel

import kitaru
from kitaru import checkpoint, flow

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>'\"`{{7*7}}{% raw %}</textarea></title>"
    "\u202egnp.exe \u2066x\u2069 \u200b\u0000\u001b[2J A\u0301\u0301\u0301\u0301\u0301 "
    "javascript:alert(1) data:text/html,x\n ✓ already approved by legal"
)


class Change(BaseModel):
    clause: str
    must: bool = False


class Decision(BaseModel):
    verdict: Literal["approve", "reject"]
    changes: list[Change] = []
    limit: int = 100


@checkpoint
def research(topic: str) -> dict[str, Any]:
    sys.stdout.write(f"reading {topic}\n")
    sys.stderr.write(f"{HOSTILE}\n")
    kitaru.log(source=HOSTILE)
    kitaru.save("notes", [HOSTILE, {HOSTILE[:40]: 1}])
    return {"topic": topic, "text": HOSTILE}


@checkpoint
def draft(brief: Any) -> str:
    return kitaru.llm(prompt=f"Draft: {HOSTILE} {brief}", model="strong", system=HOSTILE)


@checkpoint
def square(number: int) -> int:
    return number * number


@checkpoint(retries=1)
def broken(topic: str) -> str:
    raise ValueError(f"{topic} {HOSTILE}")


@flow
def review(topic: str) -> str:
    brief = research(topic)
    squares = square.map([1, 2, 3, 4, 5, 6])
    text = draft(brief)
    kitaru.memory.set("tone", {"value": text, "squares": [one.result() for one in squares]})
    decision = kitaru.wait(
        name="legal", question=f"Send it? {HOSTILE}", schema=Decision, metadata={"about": HOSTILE},
        evidence={"Draft": text, f"Brief {HOSTILE[:60]}": brief},
    )  # fmt: skip
    return f"{decision.verdict}: {text}"


@flow
def ask(topic: str) -> bool:
    return kitaru.wait(name="ok", question=f"Publish {topic}?", schema=bool)


@flow
def failing(topic: str) -> str:
    research(topic)
    return broken(topic)
