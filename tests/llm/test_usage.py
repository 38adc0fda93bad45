"""What model calls took: failed, repeated and abandoned ones, counted when they were made."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.errors import CheckpointFailed, CheckpointTimeout, ModelRequestError
from kitaru.ops.model_usage import Usage, model_usage
from kitaru.runtime.executions.listing import executions_since
from tests.waiting import time_hangs

from .scripted import Provider, Says, serving

LONG_AGO = "2020-01-01T00:00:00.000000Z"
DAY = timedelta(days=1)
PRICED = "openai/gpt-4o"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setattr("kitaru.runtime.llm.providers.time.sleep", lambda seconds: None)


@checkpoint(retries=1)
def ask(topic: str) -> str:
    return kitaru.llm(topic, model="priced", retries=1)


@checkpoint(timeout=0.3)
def ask_briefly(topic: str) -> str:
    return kitaru.llm(topic, model="priced", retries=0)


@flow(cache=False)
def asks(topic: str) -> str:
    return ask(topic)


@flow(cache=False)
def asks_briefly(topic: str) -> str:
    try:
        return ask_briefly(topic)
    except CheckpointTimeout:
        return "too late"


@flow(cache=False)
def goes_on(topic: str) -> str:
    try:
        return kitaru.llm(topic, model="priced", retries=0)
    except ModelRequestError:
        return kitaru.llm(topic, model="priced", retries=0)


def run(flow: Any, script: list[Says], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Run a flow against a script and return the calls that its execution made."""
    with serving(script) as provider:
        models = {"priced": {"model": PRICED, "api_base": provider.url}}
        monkeypatch.setenv("KITARU_MODELS", json.dumps(models))
        handle = flow.run("tea")
        try:
            handle.wait()
        except CheckpointFailed:
            assert handle.status == "failed"
    calls: list[dict[str, Any]] = KitaruClient().executions.get(handle.exec_id).calls
    return calls


def told(calls: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [
        (c["attempt"], c["finish"], c.get("status"), c["tries"], c["tokens"]["prompt"])
        for c in calls
    ]


def used(since: timedelta = DAY) -> Usage:
    return model_usage(KitaruClient().store, since)[1]


def test_a_refused_call_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = run(asks, [Says("no", 400), Says("no", 400)], monkeypatch)
    assert told(calls) == [(1, "error", 400, 1, 0), (2, "error", 400, 1, 0)]
    assert [call["prompt"] for call in calls] == ["tea", "tea"]
    total = used()
    assert (total.calls, total.requests, total.cost, total.unpriced) == (2, 2, 0, 0)
    assert total.latency_s > 0


def test_repeated_requests_count_each(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = run(asks, [Says("busy", 503), Says("fine")], monkeypatch)
    assert told(calls) == [(0, "stop", None, 2, 7)]
    total = used()
    assert (total.calls, total.requests, total.prompt_tokens) == (1, 2, 7)


def test_a_retried_checkpoint_has_the_calls_of_each_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = [Says("busy", 503), Says("busy", 429), Says("fine")]
    calls = run(asks, script, monkeypatch)
    assert told(calls) == [(0, "stop", None, 1, 7), (1, "error", 429, 2, 0)]
    total = used()
    assert (total.calls, total.requests, total.prompt_tokens) == (2, 3, 7)
    assert total.cost == calls[0]["cost"] > 0


def test_a_call_without_an_answer_has_no_known_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = run(goes_on, [Says(lost=True), Says("fine")], monkeypatch)
    assert told(calls) == [(0, "stop", None, 1, 7), (1, "error", None, 1, 0)]
    total = used()
    assert (total.calls, total.requests, total.unpriced) == (2, 2, 1)


def test_a_call_that_a_timeout_gives_up_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, hangs = Provider.next, time_hangs(monkeypatch.setattr)
    monkeypatch.setattr(Provider, "next", lambda *of: hangs.set() or asked(*of))
    calls = run(asks_briefly, [Says(silent=True)], monkeypatch)
    assert told(calls) == [(1, "given up", None, 1, 0)]
    assert calls[0]["latency_s"] >= 0.3
    assert (used().calls, used().unpriced) == (1, 1)


def test_a_call_counts_when_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(sys.modules["kitaru.local_flow"], "now", lambda: LONG_AGO)
        run(asks, [Says("fine")], monkeypatch)
    assert used().calls == 1
    with monkeypatch.context() as earlier:
        earlier.setattr("kitaru.runtime.llm.model_calls.now", lambda: LONG_AGO)
        run(asks, [Says("fine")], monkeypatch)
    assert used().calls == 1
    assert used(timedelta(days=36_500)).calls == 2
    days = model_usage(KitaruClient().store, timedelta(days=36_500), by="day")[0]
    assert LONG_AGO[:10] in [day.name for day in days]


def test_executions_that_came_to_rest_earlier_are_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, module in [*sys.modules.items()]:
        if name.startswith("kitaru.") and hasattr(module, "now"):
            monkeypatch.setattr(module, "now", lambda: LONG_AGO)
    store = KitaruClient().store

    @flow
    def plain() -> int:
        return 1

    @flow
    def waits() -> bool:
        return bool(kitaru.wait(name="ok"))

    ended, waiting = plain.run(), waits.run()
    assert (ended.wait(), waiting.settle()) == (1, "waiting")
    moment = "2021-01-01T00:00:00.000000Z"
    assert [one["exec_id"] for one in executions_since(store, LONG_AGO)] != []
    assert [*executions_since(store, moment)] == []
    monkeypatch.undo()
    assert [one["exec_id"] for one in executions_since(store, moment)] == []
    KitaruClient(store).executions.input(waiting.exec_id, True).wait()
    assert [one["exec_id"] for one in executions_since(store, moment)] == [waiting.exec_id]
