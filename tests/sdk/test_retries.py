"""Trying again: how often, after how long, after which exceptions, and for how long at most."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kitaru
from kitaru import KitaruClient, checkpoint, config, errors, flow
from kitaru.runtime.engine.local_run import LocalRun
from kitaru.runtime.engine.retries import LONGEST_DELAY, Policy
from tests.waiting import time_hangs

calls: list[Any] = []
gate = threading.Event()


@pytest.fixture(autouse=True)
def nothing_was_called() -> Iterator[None]:
    calls.clear()
    gate.clear()
    yield
    gate.set()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the pauses that runs ask for, which take no time here."""
    asked: list[float] = []
    monkeypatch.setattr(LocalRun, "pause", lambda run, seconds: asked.append(seconds))
    return asked


class Odd(Exception):
    """An exception of the project's own."""


def fails(times: int, error: Exception) -> str:
    calls.append(1)
    if len(calls) <= times:
        raise error
    return f"attempt {len(calls)}"


@checkpoint(retries=3, retry_delay=2, backoff=3)
def slowly(times: int) -> str:
    return fails(times, ValueError("not yet"))


@flow
def tries_slowly(times: int) -> str:
    return slowly(times)


def test_each_pause_is_longer(pauses: list[float]) -> None:
    handle = tries_slowly.run(3)
    assert handle.wait() == "attempt 4"
    longest, jittered = [2.0, 5.0, 1.0, 5.0, 5.0, 5.0, 3.0], sum(pauses)
    assert sum(longest) / 2 <= jittered <= sum(longest)
    assert max(pauses) <= 5, "a cancellation would be seen late"


def test_attempts_are_on_record(pauses: list[float]) -> None:
    handle = tries_slowly.run(2)
    handle.wait()
    view = KitaruClient().executions.get(handle.exec_id)
    assert [record.attempts for record in view.invocations] == [3]
    assert [(a["invocation"], a["number"], a["type"]) for a in view.to_dict()["attempts"]] == [
        ("slowly", 1, "ValueError"),
        ("slowly", 2, "ValueError"),
    ]


@checkpoint(retries=2)
def at_once() -> str:
    return fails(2, ValueError("not yet"))


@flow
def tries_at_once() -> str:
    return at_once()


def test_without_a_delay_there_is_no_pause(pauses: list[float]) -> None:
    assert tries_at_once.run().wait() == "attempt 3"
    assert pauses == []


@checkpoint(retries=5, retry_on=(ConnectionError, Odd))
def picky(kind: str) -> str:
    return fails(1, {"odd": Odd("odd"), "refused": ConnectionRefusedError()}.get(kind, KeyError(1)))


@flow
def is_picky(kind: str) -> str:
    try:
        return picky(kind)
    except KeyError:
        return f"gave up after {len(calls)}"


@pytest.mark.parametrize(
    ("kind", "result"),
    [("odd", "attempt 2"), ("refused", "attempt 2"), ("other", "gave up after 1")],
)
def test_only_some_exceptions_are_worth_another_try(kind: str, result: str) -> None:
    assert is_picky.run(kind).wait() == result


@checkpoint
def says_nothing() -> str:
    return fails(2, Odd("odd"))


@checkpoint(retries=0)
def says_never() -> str:
    return fails(1, Odd("odd"))


@flow(retries=2, retry_delay=4, retry_on=Odd)
def says(never: bool) -> str:
    return says_never() if never else says_nothing()


def test_what_a_checkpoint_leaves_open_the_flow_says(pauses: list[float]) -> None:
    assert says.run(False).wait() == "attempt 3"
    assert 2 <= pauses[0] <= 4
    calls.clear()
    with pytest.raises(errors.CheckpointFailed, match="odd"):
        says.run(True).wait()
    assert len(calls) == 1


@flow
def says_no_more() -> str:
    return says_nothing()


@pytest.mark.parametrize("where", ["configure", "environment", "project"])
def test_what_the_flow_leaves_open_is_configured(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "configure":
        monkeypatch.setitem(config._configured, "retries", 2)
    elif where == "environment":
        monkeypatch.setenv("KITARU_RETRIES", "2")
    else:
        Path("pyproject.toml").write_text("[tool.kitaru]\nretries = 2\n")
    assert says_no_more.run().wait() == "attempt 3"
    calls.clear()
    with pytest.raises(errors.CheckpointFailed):
        says_no_more.options(retries=0, cache=False).run().wait()
    assert len(calls) == 1


def test_a_run_says_more_than_the_flow_and_a_checkpoint_more_than_a_run(
    pauses: list[float],
) -> None:
    with pytest.raises(errors.CheckpointFailed):
        says.options(retries=1).run(False).wait()
    assert len(calls) == 2
    calls.clear()
    with pytest.raises(errors.CheckpointFailed):
        says.options(retries=5).run(True).wait()
    assert len(calls) == 1


def test_whoever_goes_on_keeps_to_what_the_run_said() -> None:
    handle = says_no_more.options(retries=1).run()
    with pytest.raises(errors.CheckpointFailed):
        handle.wait()
    assert says_no_more.resume(handle.exec_id).wait() == "attempt 3"
    (record,) = KitaruClient().executions.get(handle.exec_id).invocations
    assert record.attempts == 3


def test_a_run_is_refused_before_anything_runs() -> None:
    with pytest.raises(errors.UsageError, match="retries=-1"):
        says_no_more.options(retries=-1)


@checkpoint(retries=1, timeout=0.05)
def hangs(work: list[str], times: int) -> str:
    number = len(calls) + 1
    calls.append(number)
    if number <= times:
        hanging[0].set()
        gate.wait(60)
        work.append("late")
        kitaru.save("late", number)
        late.set()
        return "late"
    return f"attempt {number}"


late = threading.Event()
hanging: list[threading.Event] = []


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> None:
    hanging[:] = [time_hangs(monkeypatch.setattr)]


@flow
def waits_for_it(times: int) -> Any:
    work = ["mine"]
    try:
        result = hangs(work, times)
    except TimeoutError as error:
        result = type(error).__name__
    gate.set()
    late.wait(60)
    return [result, work]


@pytest.mark.usefixtures("timed")
def test_an_attempt_that_takes_too_long_is_dropped() -> None:
    late.clear()
    handle = waits_for_it.run(1)
    assert handle.wait() == ["attempt 2", ["mine"]]
    view = KitaruClient().executions.get(handle.exec_id)
    (record,) = view.invocations
    assert (record.attempts, record.artifacts) == (2, ())
    (attempt,) = view.attempts
    assert attempt.error is not None
    assert attempt.error.type == "kitaru.errors.CheckpointTimeout"
    assert "longer than its timeout of 0.05 s" in attempt.error.message


@pytest.mark.usefixtures("timed")
def test_a_timeout_can_be_caught_and_is_recorded() -> None:
    late.clear()
    handle = waits_for_it.run(2)
    assert handle.wait() == ["CheckpointTimeout", ["mine"]]
    view = KitaruClient().executions.get(handle.exec_id)
    assert [(r.status, r.attempts) for r in view.invocations] == [("failed", 2)]
    again = view.journal.invocation("hangs")
    assert again is not None and again.status == "failed", "a late result is never recorded"


@checkpoint(timeout=0.05)
async def hangs_asleep() -> None:
    import asyncio

    try:
        hanging[0].set()
        await asyncio.sleep(3600)
    finally:
        calls.append("cancelled")
        cancelled.set()


# Not `late`: an attempt that an earlier test dropped may still be about to set that.
cancelled = threading.Event()


@flow
def waits_asleep() -> list[str]:
    try:
        hangs_asleep()
    except errors.CheckpointTimeout:
        cancelled.wait(60)
    return list(calls)


@pytest.mark.usefixtures("timed")
def test_an_async_function_is_cancelled() -> None:
    assert waits_asleep.run().wait() == ["cancelled"]


@checkpoint(timeout=240)
def in_time(how: str) -> str:
    if how == "raise":
        raise Odd("in time")
    if how == "exit":
        raise SystemExit(3)
    return kitaru.idempotency_key()


@flow
def is_in_time(how: str) -> str:
    return in_time(how)


def test_in_time_it_is_as_without_a_timeout() -> None:
    assert len(is_in_time.run("key").wait()) == 32
    with pytest.raises(errors.CheckpointFailed, match="Odd: in time"):
        is_in_time.run("raise").wait()
    with pytest.raises(errors.FlowError, match="SystemExit"):
        is_in_time.run("exit").wait()


@pytest.mark.parametrize(
    "options",
    [
        {"retries": -1},
        {"retries": True},
        {"retry_delay": -1},
        {"retry_delay": float("inf")},
        {"retry_delay": "5"},
        {"retry_delay": 3601},
        {"backoff": 0.5},
        {"backoff": 101},
        {"retry_on": "ValueError"},
        {"retry_on": KeyboardInterrupt},
        {"retry_on": (ValueError, 3)},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("nan")},
    ],
    ids=str,
)
def test_what_is_no_option(options: dict[str, Any]) -> None:
    with pytest.raises(errors.UsageError):
        checkpoint(**options)(fails)


@given(
    st.integers(0, 500),
    st.floats(0, 3600),
    st.floats(1, 100),
    st.integers(1, 1500),
    st.floats(0, 1),
)
def test_pauses_grow_to_an_hour_and_start_again_with_a_retry(
    retries: int, delay: float, backoff: float, attempt: int, chance: float
) -> None:
    policy = Policy(retries, delay, backoff, (Exception,))
    pause = policy.pause(attempt, chance)
    assert 0 <= pause <= LONGEST_DELAY
    assert pause == policy.pause(attempt + 1 + retries, chance)
    assert policy.pause(attempt, 1) * 2 == pytest.approx(policy.pause(attempt, 0))
    if attempt % (1 + retries):
        assert policy.pause(attempt + 1, 0) >= policy.pause(attempt, 0)


def test_by_default_any_exception_counts_and_nothing_is_tried_again() -> None:
    policy = Policy().with_defaults(Policy())
    assert policy == Policy(0, 0.0, 2.0, (Exception,), None)
    assert Policy(2).with_defaults(Policy(5, 1.0, 3.0, (Odd,), None)) == Policy(
        2, 1.0, 3.0, (Odd,), None
    )
