"""Evaluators score recorded executions, in code and from the command line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.errors import UsageError
from kitaru.ops.evaluate import load_evaluators
from kitaru.testing import FlowTest
from tests import forks


@checkpoint
def draft(topic: str) -> str:
    return kitaru.llm(f"Write about {topic}", model="fast")


@flow
def write(topic: str) -> str:
    return draft(topic)


@pytest.fixture
def runs(flow_test: FlowTest) -> list[str]:
    """Two executions of one flow, a replay of the second, and an execution that failed."""
    flow_test.script("fast", ["A", "A long text", "Another text", ValueError("no")])
    found = [flow_test.run(write, topic) for topic in ("kayaks", "rivers")]
    replayed = write.replay(found[1].exec_id)
    replayed.wait()
    with pytest.raises(kitaru.errors.KitaruError):
        flow_test.run(write, "seas")
    return [one.exec_id for one in found] + [replayed.exec_id]


def short(run: Any) -> bool:
    return len(run.result) < 10


def words(run: Any) -> tuple[int, str]:
    return len(run.result.split()), f"of {run.inputs['topic']}"


def test_scores_means_and_notes(runs: list[str]) -> None:
    found = KitaruClient().evaluate(
        {"short": short, "words": words}, where={"status": "completed", "flow": "write"}
    )
    assert [one.exec_id for one in found.executions] == runs[::-1]
    assert found.means == {"short": pytest.approx(1 / 3), "words": pytest.approx(2)}
    assert found.executions[0].replay_of == runs[1]
    assert found.executions[0].scores["words"].note == "of rivers"
    assert found.below({"short": 0.3}) == []
    assert found.below({"short": 0.5, "words": 2}) == ["short"]


def test_an_evaluator_that_fails_or_does_not_apply(runs: list[str]) -> None:
    def failed(run: Any) -> float | None:
        return None if run.status == "completed" else 1.0

    found = KitaruClient().evaluate({"short": short, "failed": failed}, where={"flow": "write"})
    newest = found.executions[0]
    assert newest.scores["short"].error.startswith("TypeError: ")
    assert newest.scores["failed"].value == 1.0
    assert found.errors == 1
    assert found.means["failed"] == 1.0


def test_an_evaluator_that_returns_something_else(runs: list[str]) -> None:
    found = KitaruClient().evaluate({"text": lambda run: "good"}, limit=1)
    assert "text returned a str" in found.executions[0].scores["text"].error


def test_a_model_as_judge_writes_nothing_to_the_store(runs: list[str], flow_test: FlowTest) -> None:
    def good(run: Any) -> tuple[int, str]:
        return kitaru.llm(f"Rate 0 to 5: {run.result}", model="judge", schema=int), "by a model"

    flow_test.script("judge", [4, 2])
    before = flow_test.store.list("")
    found = KitaruClient().evaluate({"good": good}, where={"status": "completed"}, limit=2)
    assert found.means == {"good": 3}
    assert found.effort.tokens > 10
    assert flow_test.store.list("") == before


EVALUATORS = """
import kitaru

def short(run):
    return len(run.result) < 10

def words(run):
    return len(run.result.split()), "words"

def judged(run):
    return kitaru.llm("Good?", schema=bool)

def _private(run):
    return 0

def two(run, other):
    return 0
"""


def test_evaluators_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "evaluators_of_a_file.py"
    path.write_text(EVALUATORS)
    assert list(load_evaluators(str(path))) == ["short", "words", "judged"]
    assert list(load_evaluators(f"{path}:words")) == ["words"]
    for wrong in (f"{path}:gone", f"{path}:two"):
        with pytest.raises(UsageError, match="contains no evaluator"):
            load_evaluators(wrong)
    with pytest.raises(UsageError, match="no file"):
        load_evaluators("gone.py")


FLOW = """
import kitaru

@kitaru.flow
def write(topic: str) -> str:
    return f"About {topic}"
"""


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "write.py").write_text(FLOW)
    (tmp_path / "judge.py").write_text(EVALUATORS)
    environ = {**os.environ, "KITARU_LLM_MOCK_RESPONSE": '{"value": true}', "COLUMNS": "100"}

    def kitaru(*words: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "kitaru", *words]
        done = forks.run(command, cwd=tmp_path, env=environ, merge=True, timeout=240)
        assert done.returncode == code, done.stdout
        return done.stdout

    for topic in ("tea", "a rather long topic"):
        kitaru("run", "write.py", "--input", f"topic={topic}")
    shown = kitaru("evaluate", "--with", "judge.py", "--where", "flow=write", "--min", "short=0.5")
    assert shown.splitlines()[0].split() == ["execution", "status", "short", "words", "judged"]
    assert ["mean", "0.5", "3.5", "1"] in [line.split() for line in shown.splitlines()]
    told = json.loads(kitaru("evaluate", "--with", "judge.py:words", "--json"))
    assert told["means"] == {"words": 3.5}
    failing = kitaru("evaluate", "--with", "judge.py:short", "--min", "short=0.9", code=1)
    assert "short is below its minimum of 0.9" in failing
    wrong = kitaru("evaluate", "--with", "judge.py", "--min", "gone=1", code=2)
    assert "there is no such evaluator" in wrong
