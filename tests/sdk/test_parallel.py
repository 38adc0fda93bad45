"""How many submitted calls run at the same time."""

from __future__ import annotations

import threading

import pytest

import kitaru
from kitaru import checkpoint, errors, flow

lock = threading.Lock()
running: list[int] = []
most: list[int] = []
together = threading.Barrier(3)


@checkpoint
def counts(item: int) -> int:
    with lock:
        running.append(item)
        most.append(len(running))
    with lock:
        running.remove(item)
    return item


@checkpoint
def meets(item: int) -> int:
    together.wait(60)
    return item


@flow(max_parallel=1, cache=False)
def one_by_one(length: int) -> list[int]:
    return [future.result() for future in counts.map(range(length))]


@flow(cache=False)
def as_configured(length: int) -> list[int]:
    return [future.result() for future in meets.map(range(length))]


def test_a_flow_says_how_many_calls_run_at_a_time() -> None:
    most.clear()
    assert one_by_one.run(12).wait() == list(range(12))
    assert max(most) == 1


def test_as_many_as_are_configured_do_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_MAX_PARALLEL", "3")
    # Each waits for two others: with fewer than three at a time, none would ever end.
    assert as_configured.run(6).wait() == list(range(6))


def test_none_at_a_time_is_refused() -> None:
    with pytest.raises(errors.UsageError, match="1 or more"):
        flow(max_parallel=0)(one_by_one.function)
    with pytest.raises(errors.UsageError, match="1 or more"):
        kitaru.configure(max_parallel=0)
