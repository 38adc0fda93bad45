"""Flows as people write them mean the same here and as every target's document, however cut."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kitaru_targets import registry

from kitaru.wire.plan import Granularity
from tests.differential.real import Ran, run_dry, run_here

pytestmark = pytest.mark.slow

FLOWS = Path(__file__).parent / "flows"


@dataclass(frozen=True)
class Case:
    """A flow with inputs, its answers by wait, and its result."""

    file: str
    flow: str
    result: Any
    inputs: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)


TOTAL = "That is 784 altogether."
CASES = {
    "fallbacks are needed": Case(
        "fallbacks",
        "travel",
        {
            "answer": "large: a hard one (a hard one is too much)",
            "texts": ["ONE", "copy of gone", "LARGE"],
            "booked": "flight booked, cancelled",
        },
        {"question": "a hard one", "hotel": "full house"},
    ),
    "fallbacks are not needed": Case(
        "fallbacks",
        "travel",
        {
            "answer": "large: yes, one ()",
            "texts": ["ONE", "copy of gone", "LARGE"],
            "booked": ["flight booked", "inn booked"],
        },
        {"question": "one", "hotel": "inn"},
    ),
    "agent sends": Case("tool_agent", "shop", TOTAL, answers={"send": True}),
    "agent keeps back": Case("tool_agent", "shop", "kept back", answers={"send": False}),
    "agent gives up": Case(
        "tool_agent", "shop", "gave up after 1 rounds and 6 messages", {"limit": 1}
    ),
    "answer from documents": Case(
        "rag",
        "ask",
        {
            "answer": "What does a kayak need? → A kayak needs a paddle; A tent needs pegs",
            "sources": ["boats.md", "tents.md"],
            "score": 0.5,
        },
    ),
    "nothing fits": Case(
        "rag", "ask", {"answer": "I do not know.", "sources": [], "score": 0.0}, {"question": "?"}
    ),
    "not sure": Case(
        "rag",
        "ask",
        {"answer": "Soup? → Soup keeps you warm", "sources": ["food.md"], "score": 1.0},
        {"question": "Soup?"},
        {"accept": True},
    ),
    "supervisor translates": Case(
        "supervisor",
        "supervise",
        "[calm] kayaks Tatsache 2, kayaks Tatsache 3, more kayaks Tatsache 1, "
        "more kayaks Tatsache 2, more kayaks Tatsache 3 (ok; wrote 35; wrote 95)",
    ),
    "supervisor does not": Case(
        "supervisor",
        "supervise",
        "[dry] a long enough subject fact 2, a long enough subject fact 3 (ok; wrote 64)",
        {"task": "a long enough subject", "tone": "dry"},
    ),
    "batch with a doubt": Case(
        "batch",
        "classify_all",
        {
            "counts": {"billing": 1, "bug": 1, "praise": 2},
            "failed": ["nothing in '  '"],
            "message": "4 stored, 1 failed",
        },
        answers={"label": "praise"},
    ),
    "batch of nothing": Case("batch", "classify_all", {"message": "nothing to do"}, {"texts": []}),
    "digest": Case("map_reduce", "digest", None),
    "short digest": Case("map_reduce", "digest", "A (0): a b", {"text": "a b"}),
    "digest of nothing": Case("map_reduce", "digest", "Nothing (0): ", {"text": ""}),
    "two revisions": Case(
        "approval",
        "article",
        {
            "posted": ["blog:74", "mail:74"],
            "final": "blog:74",
            "wishes": ["more teh", "shorter"],
            "headings": 3,
        },
        answers={"wish_1": "more teh", "wish_2": "shorter", "wish_3": "", "again": True},
    ),
    "stopped": Case(
        "approval", "article", {"status": "stopped", "wishes": []}, answers={"wish_1": "stop"}
    ),
    "trained": Case(
        "training",
        "train",
        [[1, -2], 1, 11, True, ["used"], ["sky"], "<pickle of training.Model>"],
    ),
    "no topic": Case("approval", "article", {"status": "no topic"}, {"topic": " "}),
}
ONE_OF_EACH = {case.file: name for name, case in CASES.items()}.values()
# One of each family: the others differ in what no dry run looks at.
TARGETS = {registry.get(name).execute: name for name in registry.names()}.values()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    shutil.copytree(FLOWS, tmp_path / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    yield tmp_path


def here(case: Case, project: Path) -> Ran:
    path = project / "flows" / f"{case.file}.py"
    return run_here(path, case.flow, case.inputs, case.answers.__getitem__, project)


@pytest.mark.parametrize("name", CASES)
def test_a_flow_gives_its_result(name: str, project: Path) -> None:
    case = CASES[name]
    ran = here(case, project)
    assert ran.status == "completed", ran.error
    if case.result is not None:
        assert ran.result == case.result


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_a_document_is_the_flow(name: str, target: str, project: Path) -> None:
    _compare(CASES[name], project, target, "checkpoint")


@pytest.mark.parametrize("granularity", ["fused", "single"])
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_fewer_steps_are_the_flow(name: str, granularity: Granularity, project: Path) -> None:
    _compare(CASES[name], project, "vertex", granularity)


def _compare(case: Case, project: Path, target: str, granularity: Granularity) -> None:
    path = project / "flows" / f"{case.file}.py"
    answer = case.answers.__getitem__
    dry = run_dry(path, case.flow, case.inputs, answer, project, target, granularity)
    assert dry == here(case, project)
