"""Requests and tokens a minute over several processes, and calls at a time in one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

import kitaru
from kitaru.errors import ModelRequestError, UsageError
from kitaru.runtime.llm import models, openai_http, providers, rate_limits
from kitaru.runtime.llm.exchange import Answer, RequestFailed
from kitaru.runtime.llm.model_calls import ask
from kitaru.runtime.llm.models import ModelRequest, Resolved
from kitaru.runtime.llm.rate_limits import Share
from kitaru.stores.memory import MemoryStore

MINUTE = 60.0


def granted(
    limits: dict[str, int], *, workers: int, seconds: int, tokens: int = 0, skew: float = 0.0
) -> list[float]:
    """Let workers with own clocks send whenever they may; return when each request was sent."""
    chance = Random(7)
    store = MemoryStore("memory:quota-of-a-test")
    resolved = Resolved("fast", "openai/gpt-4o", **limits)
    shares = [Share(store, resolved) for _ in range(workers)]
    clocks = [chance.uniform(-skew, skew) for _ in shares]
    due, sent = [0.0] * workers, []
    start = 1_000_000_000.0
    for _ in range(1_000_000):
        if (now := min(due)) >= seconds:
            return sent
        worker = due.index(now)
        pause = shares[worker].seconds_until_admitted(start + now + clocks[worker], tokens)
        if not pause:
            sent.append(now)
        due[worker] = now + (pause + chance.random() * 0.5 if pause else 0.05)
    raise AssertionError("the clock stands still")


def most_in_a_minute(sent: list[float]) -> int:
    return max(sum(one <= other < one + MINUTE for other in sent) for one in sent)


@pytest.mark.parametrize(("rpm", "workers"), [(600, 16), (60, 16), (60, 1), (3, 4), (1_000, 3)])
def test_requests_of_all_processes_stay_below_the_limit(rpm: int, workers: int) -> None:
    sent = granted({"rpm": rpm}, workers=workers, seconds=300)
    window = max(10, 60 / rpm)
    assert most_in_a_minute(sent) <= rpm * (1 + window / MINUTE) + 1
    # Not much of the limit is lost.
    assert len(sent) >= 0.8 * rpm * 300 / MINUTE


def test_clocks_that_differ_exceed_the_limit_by_as_much() -> None:
    sent = granted({"rpm": 600}, workers=8, seconds=300, skew=5)
    assert most_in_a_minute(sent) <= 600 * (1 + (10 + 10) / MINUTE)


def test_tokens_of_long_calls_are_a_debt() -> None:
    sent = granted({"tpm": 60_000}, workers=4, seconds=300, tokens=4_000)
    assert 60 <= len(sent) <= (300 + 10) * 1_000 / 4_000 + 4


def test_tokens_used_beyond_the_estimate_are_paid_later() -> None:
    share = Share(MemoryStore("memory:debt"), Resolved("fast", "openai/gpt-4o", tpm=6_000))
    assert share.seconds_until_admitted(1_000.0, 100) == 0
    share.settle(2_900)
    # The window has 1,000 tokens, so that two more pass before a call.
    assert share.seconds_until_admitted(1_000.0, 100) == 10
    assert share.seconds_until_admitted(1_010.0, 100) == 10
    assert share.seconds_until_admitted(1_020.0, 100) == 10
    assert share.seconds_until_admitted(1_030.0, 100) == 0


def test_old_chunks_are_deleted() -> None:
    store = MemoryStore("memory:old-chunks")
    share = Share(store, Resolved("fast", "openai/gpt-4o", rpm=600))
    for second in range(0, 100, 2):
        share.seconds_until_admitted(float(second), 0)
    assert len(store.list("quota/")) == 1


def test_calls_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_MODELS", '{"narrow": {"model": "openai/gpt-4o", "at_a_time": 2}}')
    running, most, lock, full = 0, 0, threading.Lock(), threading.Event()

    def answer(request: ModelRequest, resolved: Resolved, pieces: Any) -> Answer:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == 2:
                full.set()
        assert full.wait(60)
        with lock:
            running -= 1
        return Answer("yes", 1, 1, 0.0)

    monkeypatch.setattr(providers, "script", answer)
    with ThreadPoolExecutor(6) as pool:
        assert [*pool.map(lambda n: asked(f"{n}"), range(12))] == ["yes"] * 12
    assert most == 2


def asked(prompt: str) -> str:
    return ask(ModelRequest(prompt, "narrow"))[0].text


def test_a_flow_waits_for_the_next_window(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_STORE", f"sqlite:{tmp_path / 'kitaru.db'}")
    monkeypatch.setenv("KITARU_MODELS", '{"slow": {"model": "openai/gpt-4o", "rpm": 6}}')
    monkeypatch.setattr(providers, "script", lambda *_: Answer("yes", 1, 1, 0.0))
    clock = [1_000_000.0]
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    now = SimpleNamespace(time=lambda: clock[0], sleep=sleep)
    monkeypatch.setattr(rate_limits, "time", now)

    @kitaru.flow
    def asks() -> list[str]:
        return [kitaru.llm(str(n), model="slow") for n in range(3)]

    assert asks.run().wait() == ["yes"] * 3
    assert [round(one) >= 9 for one in slept] == [True, True]


def test_one_refusal_stops_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = Resolved("busy", "openai/busy")
    clock, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    def request_once(request: ModelRequest, resolved: Resolved, pieces: Any) -> Answer:
        if clock[0] < 20:
            error = ModelRequestError("busy", status=429)
            raise RequestFailed(error, temporary=True, pause=20)
        return Answer("yes", 1, 1, 0.0)

    now = SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep)
    monkeypatch.setattr(providers, "time", now)
    monkeypatch.setattr(openai_http, "request_once", request_once)
    monkeypatch.setattr(openai_http, "load", lambda resolved: None)
    assert providers.ask(ModelRequest("?", "busy"), resolved).text == "yes"
    # A call of another thread that begins meanwhile waits as well.
    clock[0] = 5.0
    assert providers.ask(ModelRequest("?", "busy"), resolved).text == "yes"
    assert slept == [20.0, 15.0]


@pytest.mark.parametrize(
    "model",
    [{"rpm": 6}, {"model": "m", "rpm": 0}, {"model": "m", "rpm": "6"}, {"model": "m", "rps": 1}],
)
def test_a_wrong_limit_is_refused(model: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="models"):
        kitaru.configure(models={"fast": model})
    assert models.resolve("fast").rpm == 0
