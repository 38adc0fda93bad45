"""Airflow is notified of an answer in every state of its run, tested with a stand-in of its API."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from kitaru_targets.airflow import submit
from kitaru_targets.airflow.submit import _Place

from kitaru.cli.output import Output
from kitaru.cli.render.submission import show_answer, show_end
from kitaru.errors import EnvironmentFailure
from kitaru.ops.notify import notify_answer, notify_end
from kitaru.runtime.journal.journal import Journal
from kitaru.stores.memory import MemoryStore
from tests.journal.harness import execution

RECORD = replace(execution(MemoryStore()), mode="deployed", target="airflow", run="flow/run")
ASKS = _Place("draft", "ok_answer", "ok")
ENDED_AT_IT = _Place("rounds", "end", "ok")
GONE_ON = _Place("ok_answer", "publish")


@dataclass
class Script:
    """A run that stands at one place after the other, and at the last one for ever."""

    places: list[_Place]
    ended: bool = False
    asleep: bool = False
    takes: bool = True
    done: list[Any] = field(default_factory=list)

    def __call__(self, run: str, options: Any) -> Script:
        self.airflow = self
        self.url = options["url"]
        return self

    def place(self) -> _Place:
        return self.places.pop(0) if len(self.places) > 1 else self.places[0]

    def has_ended(self) -> bool:
        return self.ended

    def sleeps(self, task: str) -> bool:
        return self.asleep

    def respond(self, following: str, value: Any) -> bool:
        self.done.append((following, value))
        return self.takes

    def clear(self, task: str) -> None:
        self.done.append(task)

    def end(self) -> None:
        self.done.append("end")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(submit.time, "sleep", lambda seconds: None)
    yield


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("script", "told", "done"),
    [
        (Script([ASKS]), True, [("ok_answer", 7)]),
        (Script([_Place(), _Place("a", "draft"), ASKS]), True, [("ok_answer", 7)]),
        (Script([ASKS, ASKS, GONE_ON], takes=False), True, [("ok_answer", 7)] * 2),
        (Script([ENDED_AT_IT], ended=True), True, ["rounds"]),
        (Script([ENDED_AT_IT], asleep=True), True, ["rounds"]),
        (Script([_Place("draft", "other_answer", "other")], ended=True), False, []),
        (Script([_Place("last", "end")], ended=True), False, []),
    ],
)
def test_a_run_is_told_where_it_waits(
    monkeypatch: pytest.MonkeyPatch, script: Script, told: bool, done: list[Any]
) -> None:
    monkeypatch.setattr(submit, "_Run", script)
    assert submit.answered(RECORD, "ok", 7, {"url": "http://airflow"}) is told
    assert script.done == done


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("place", [GONE_ON, ENDED_AT_IT, _Place("b", "more_answer", "more")])
def test_a_run_that_does_not_come_to_the_wait_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, place: _Place
) -> None:
    script = Script([place])
    monkeypatch.setattr(submit, "_Run", script)
    with pytest.raises(EnvironmentFailure, match="has not reached ok"):
        submit.answered(RECORD, "ok", 7, {"url": "http://airflow"})
    assert script.done == []


@pytest.mark.parametrize(("ended", "done"), [(False, ["end"]), (True, [])])
def test_a_run_that_goes_on_is_ended(
    monkeypatch: pytest.MonkeyPatch, ended: bool, done: list[str]
) -> None:
    script = Script([GONE_ON], ended=ended)
    monkeypatch.setattr(submit, "_Run", script)
    assert submit.cancelled(RECORD, {"url": "http://airflow"}) is not ended
    assert script.done == done


def test_without_its_address_it_is_said_what_to_do_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KITARU_AIRFLOW_URL", raising=False)
    store = MemoryStore()
    journal = Journal.create(store, RECORD)
    output = Output(as_json=False)
    show_answer(notify_answer(journal, "ok", True), output)
    show_end(notify_end(journal), output)
    answered, ended = capsys.readouterr().err.splitlines()
    assert "KITARU_AIRFLOW_URL" in answered and "clear" in answered
    assert "KITARU_AIRFLOW_URL" in ended and "mark it as failed" in ended
