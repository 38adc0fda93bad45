"""Checkpoints that are methods: the same surface as functions, on one object."""

from __future__ import annotations

import copy
import inspect
import sys
from pathlib import Path
from types import MethodType
from typing import Any

import pytest

from kitaru import KitaruClient, checkpoint, flow
from kitaru.checkpoints import BoundCheckpoint
from kitaru.errors import FlowError


class Agent:
    def __init__(self, style: str) -> None:
        self.style = style

    @checkpoint(name="ask", retries=1, type="llm_call")
    def answer(self, question: str, tone: str = "calm") -> str:
        """Answer a question."""
        return f"{self.style} {question} {tone}"

    @staticmethod
    @checkpoint
    def search(query: str) -> str:
        return f"found {query}"

    @classmethod
    @checkpoint
    def named(cls, query: str) -> str:
        return f"{cls.__name__} {query}"


class Child(Agent):
    pass


# What `a.named` and `Agent.named` are, which Python 3.13 changed.
BINDS = sys.version_info < (3, 13)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


CALLS: dict[str, Any] = {
    "call": lambda a: [a.answer("q", tone="dry")],
    "id": lambda a: [a.answer("q", id="mine")],
    "submit": lambda a: [a.answer.submit("q", tone="dry").result()],
    "after": lambda a: [a.answer.submit("q", after=a.search.submit("x")).result()],
    "map": lambda a: a.answer.map(["q", "r"]).result(),
    "map of several": lambda a: a.answer.map(["q", "r"], ["dry", "wet"]).result(),
    "map with a keyword": lambda a: a.answer.map(["q", "r"], tone="dry").result(),
    "product": lambda a: a.answer.product(["q", "r"], ["dry", "wet"]).result(),
    "static": lambda a: a.search.map(["q", "r"]).result(),
    "class": lambda a: [a.named("q"), Child.named("r")],
    "of the class": lambda a: type(a).answer.map([a, a], ["q", "r"]).result(),
    "inherited": lambda a: Child("x").answer.map(["q"]).result(),
    "a variable": lambda a: (lambda ask: [*ask.map(["q"]).result(), ask("r")])(a.answer),
}
EXPECTED: dict[str, list[str]] = {
    "call": ["plain q dry"],
    "id": ["plain q calm"],
    "submit": ["plain q dry"],
    "after": ["plain q calm"],
    "map": ["plain q calm", "plain r calm"],
    "map of several": ["plain q dry", "plain r wet"],
    "map with a keyword": ["plain q dry", "plain r dry"],
    "product": ["plain q dry", "plain q wet", "plain r dry", "plain r wet"],
    "static": ["found q", "found r"],
    "class": ["Agent q", "Child r"],
    "of the class": ["plain q calm", "plain r calm"],
    "inherited": ["x q calm"],
    "a variable": ["plain q calm", "plain r calm"],
}


@flow(cache=False)
def calls(name: str) -> list[str]:
    found: list[str] = CALLS[name](Agent("plain"))
    return found


@pytest.mark.parametrize("name", CALLS)
def test_each_way_of_calling_a_method(name: str) -> None:
    handle = calls.run(name)
    assert handle.wait() == EXPECTED[name]
    invocations = KitaruClient().executions.get(handle.exec_id).invocations
    assert len(invocations) >= len(EXPECTED[name])
    if name == "id":
        assert [one.id for one in invocations] == ["mine"]


def test_what_a_bound_checkpoint_is() -> None:
    agent = Agent("plain")
    bound = agent.answer
    assert isinstance(bound, BoundCheckpoint)
    assert (bound.name, bound.type, bound.policy.retries) == ("ask", "llm_call", 1)
    assert (bound.__name__, bound.__doc__) == ("answer", "Answer a question.")
    assert bound.__self__ is agent and bound.__func__ is Agent.__dict__["answer"]
    assert [*inspect.signature(bound).parameters] == ["question", "tone"]
    assert bound == agent.answer != Agent("plain").answer
    assert len({bound, agent.answer}) == 1
    assert copy.copy(bound) == bound
    with pytest.raises(AttributeError, match="no attribute 'mapp'"):
        bound.mapp  # noqa: B018


def test_a_bound_checkpoint_has_what_a_checkpoint_has() -> None:
    public = {name for name in dir(Agent.__dict__["answer"]) if not name.startswith("_")}
    bound = Agent("plain").answer
    assert [name for name in public if not hasattr(bound, name)] == []


@flow
def concurrently(named: str) -> list[str]:
    # The second is what Python 3.13 makes of `Agent.named`.
    reached = {"here": Agent.named, "3.13": MethodType(Agent.__dict__["named"].__func__, Agent)}
    return [reached[named].submit("q").result(), *reached[named].map(["r"]).result()]


def test_a_class_that_python_does_not_pass_is_an_error() -> None:
    if BINDS:
        assert concurrently.run("here").wait() == ["Agent q", "Agent r"]
    with pytest.raises(FlowError, match=r"The class is lost in Agent\.named\.submit"):
        concurrently.run("3.13").wait()
