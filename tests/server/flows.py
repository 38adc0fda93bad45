"""Flows whose executions the service shows."""

from __future__ import annotations

import sys
from typing import Any

import kitaru
from kitaru import checkpoint, flow, wait


@checkpoint
def draft(topic: str) -> str:
    return f"about {topic}"


@checkpoint
def broken(topic: str) -> str:
    raise ValueError(f"no {topic}")


@flow
def review(topic: str) -> str:
    text = draft(topic)
    sys.stdout.write("drafting\n")
    is_good = wait(name="ok", question="Publish?", schema=bool, metadata={"topic": topic})
    sys.stdout.write("published\n" if is_good else "dropped\n")
    return text if is_good else "nothing"


@flow
def two_questions() -> list[Any]:
    first = wait(name="first-one", question="One?", schema=int)
    return [first, wait(name="second", question="Two?", schema=list[str])]


@flow
def plain(topic: str) -> str:
    sys.stdout.write(f"working on {topic}\n")
    return draft(topic)


@flow
def failing(topic: str) -> str:
    return broken(topic)


@flow
def odd() -> dict[str, Any]:
    """Return values that JSON cannot hold as they are."""
    return {"nan": float("nan"), "half": "\ud800", "bytes": b"\xff", "deep": [[[[1]]]]}


@checkpoint
def many() -> dict[str, Any]:
    return {"text": "x" * 20_000, "list": [*range(5_000)]}


@flow
def large() -> int:
    return len(many())


@flow
def talking() -> None:
    for number in range(5):
        sys.stdout.write(f"line {number}\n")


@flow
def asking() -> str:
    return str(kitaru.llm("Write about owls.", model="offline/echo"))
