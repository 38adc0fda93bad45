"""The hand-written compilations that the tests of the step runtime share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.step.build import Program, block, step

REVIEW_SOURCE = """\
from pathlib import Path

import kitaru
from kitaru import checkpoint, flow


def note(name):
    with Path("calls.txt").open("a") as file:
        file.write(name + "\\n")


@checkpoint
def research(topic: str) -> dict:
    note("research")
    return {"topic": topic, "facts": [1, 2]}


@checkpoint
def draft(brief: dict) -> str:
    note("draft")
    return "draft of " + brief["topic"]


@checkpoint
def publish(text: str) -> str:
    note("publish")
    return text.upper()


@flow
def the_flow(topic: str) -> str:
    brief = research(topic)
    text = draft(brief)
    approved = kitaru.wait(name="approve", question=f"Approve {text}?")
    if not approved:
        return "rejected"
    return publish(text)
"""

REVIEW_STEPS = """\
def research(frame):
    topic = frame["topic"]
    brief = research(topic)
    return "draft", locals()


def draft(frame):
    brief = frame["brief"]
    text = draft(brief)
    return "wait_approve", locals()


def wait_approve(frame):
    text = frame["text"]
    approved = kitaru.wait(name="approve", question=f"Approve {text}?")
    if not approved:
        return None, "rejected"
    return "publish", locals()


def publish(frame):
    text = frame["text"]
    return None, publish(text)
"""


def review(folder: Path, **options: Any) -> Program:
    """The review flow: two steps, a wait at the tail of the second, a step behind it."""
    blocks = (
        block("research", "checkpoint", ("draft",), ("topic",)),
        block("draft", "checkpoint", ("wait_approve",), ("brief",)),
        block("wait_approve", "wait", ("publish", None), ("text",)),
        block("publish", "checkpoint", (None,), ("text",)),
    )
    steps = (
        step("research", "research"),
        step("draft", "draft", "wait_approve", may_wait=True),
        step("publish", "publish"),
    )
    return Program(folder, REVIEW_SOURCE, REVIEW_STEPS, blocks, steps, **options)
