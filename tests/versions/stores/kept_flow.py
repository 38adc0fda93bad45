"""The flow of the executions in the kept stores. It never changes: every release runs it."""

from dataclasses import dataclass
from pathlib import Path

import kitaru
from kitaru import checkpoint, flow


@dataclass
class Brief:
    topic: str
    text: str


def note(name: str) -> None:
    with Path("calls.txt").open("a") as file:
        file.write(name + "\n")


@checkpoint
def draft(topic: str) -> Brief:
    note("draft")
    kitaru.save("sources", [topic, "a book"])
    kitaru.log(words=3)
    return Brief(topic, "x" * 70_000)


@checkpoint
def review(brief: Brief) -> str:
    note("review")
    if not Path("repaired").exists():
        raise ValueError("no reviewer")
    return f"reviewed {brief.topic}"


@checkpoint
def publish(brief: Brief, note_of: str) -> str:
    note("publish")
    return f"published {brief.topic}: {len(brief.text)}, {note_of}"


@flow
def kept(topic: str, reviewed: bool = False) -> str:
    brief = draft(topic)
    kitaru.memory.set("tone", {"of": topic, "words": ["dry", "short"]})
    text = review(brief) if reviewed else "not reviewed"
    if not kitaru.wait(name="approve", question="Publish it?"):
        return "no"
    return publish(brief, text)
