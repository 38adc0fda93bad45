"""Checkpoints in threads that a flow starts itself: a replay finds their records."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import pairwise
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.client import KitaruClient

from .conftest import Runs

called: list[int] = []
# The order in which the threads arrive.
first: list[int] = []


@checkpoint(cache=False)
def work(x: int) -> int:
    called.append(x)
    return x * 10


class Turns:
    """Lets threads pass in a given order."""

    def __init__(self, order: list[int]) -> None:
        self._gates = {x: threading.Event() for x in order}
        self._next = dict(pairwise(order))
        self._gates[order[0]].set()

    def wait(self, x: int) -> None:
        self._gates[x].wait()

    def passed(self, x: int) -> None:
        if x in self._next:
            self._gates[self._next[x]].set()


@flow
def parallel(n: int) -> Any:
    turns = Turns([*first])

    def node(x: int) -> list[int]:
        turns.wait(x)
        once = work(x)
        turns.passed(x)
        return [once, work(100 + x)]

    with ThreadPoolExecutor(n) as pool:
        # As frameworks do it: each thread gets a copy of the context.
        started = [pool.submit(copy_context().run, node, x) for x in range(n)]
        found = [one.result() for one in started]
    return [found, kitaru.wait(name="stop", schema=int)]


@pytest.mark.parametrize("again", [[2, 1, 0], [1, 2, 0], [0, 1, 2]])
def test_threads_that_arrive_in_another_order_find_their_records(
    runs: Runs, again: list[int]
) -> None:
    first[:] = [0, 1, 2]
    handle = parallel.run(3)
    assert handle.settle(240) == "waiting"
    expected = [[10 * x, 1000 + 10 * x] for x in range(3)]
    KitaruClient().executions.input(handle.exec_id, 7)
    assert handle.wait(240) == [expected, 7]
    ids = set(runs.records(handle))
    first[:] = again
    called.clear()
    # A replay runs the body again, with the records of its source.
    replayed = parallel.replay(handle.exec_id, start="stop")
    assert replayed.settle(240) == "waiting"
    assert called == []
    KitaruClient().executions.input(replayed.exec_id, 8)
    assert replayed.wait(240) == [expected, 8]
    assert set(runs.records(replayed)) == ids


@flow
def pool() -> Any:
    with ThreadPoolExecutor(1) as threads:
        found = [threads.submit(copy_context().run, work, x).result() for x in first]
    return [found, work(50), kitaru.wait(name="stop", schema=int)]


@pytest.mark.parametrize(
    "again",
    [[5, 1, 2], [0, 1, 5], [2, 1, 5], [2, 0, 5], [2, 5, 0], [2], [0]],
    ids=str,
)
def test_another_call_in_a_thread_diverges_while_a_record_is_left(again: list[int]) -> None:
    first[:] = [0, 1, 2]
    handle = pool.run()
    assert handle.settle(240) == "waiting"
    first[:] = again
    called.clear()
    replayed = pool.replay(handle.exec_id, start="stop")
    assert replayed.settle(240) == "failed"
    error = KitaruClient().executions.get(replayed.exec_id).error
    assert error is not None and error.type.endswith("Diverged")
    assert called == []


@checkpoint(cache=False)
def count(x: int) -> int:
    called.append(x)
    return len(called)


@flow
def beside() -> Any:
    def in_thread() -> int:
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(copy_context().run, count, 1).result()

    calls = [lambda: count(1), in_thread]
    found = [call() for call in (calls if first else calls[::-1])]
    return [found, kitaru.wait(name="stop", schema=int)]


def test_a_record_that_a_thread_uses_is_not_used_again_by_the_body(runs: Runs) -> None:
    first[:] = [0]
    handle = beside.run()
    assert handle.settle(240) == "waiting"
    ids = set(runs.records(handle))
    first.clear()
    called.clear()
    replayed = beside.replay(handle.exec_id, start="stop")
    assert replayed.settle(240) == "waiting"
    assert called == []
    KitaruClient().executions.input(replayed.exec_id, 8)
    found, _ = replayed.wait(240)
    assert sorted(found) == [1, 2]
    assert set(runs.records(replayed)) == {*ids, "stop"}
