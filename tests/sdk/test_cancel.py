"""A cancelled execution stops at its next durable operation, wherever it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, errors, flow
from tests.sdk.conftest import Script
from tests.waiting import wait_until

BEGAN, GATE = threading.Event(), threading.Event()


@checkpoint(cache=False)
def held(number: int) -> int:
    BEGAN.set()
    assert GATE.wait(60)
    return number


@checkpoint(cache=False)
def quick(number: int) -> int:
    return number


@pytest.fixture(autouse=True)
def _closed() -> None:
    BEGAN.clear()
    GATE.clear()


@flow
def two_steps() -> int:
    try:
        return quick(held(1))
    finally:
        quick(5)


def test_it_stops_at_the_next_durable_operation_and_nothing_is_unwound() -> None:
    client = KitaruClient()
    handle = two_steps.run()
    assert BEGAN.wait(60)
    assert client.executions.cancel(handle.exec_id).status == "cancelled"
    with pytest.raises(errors.StateError, match="cannot be resumed"):
        client.executions.resume(handle.exec_id)
    GATE.set()
    with pytest.raises(errors.StateError, match="was cancelled"):
        handle.wait(60)
    records = client.executions.get(handle.exec_id).invocations
    assert [record.id for record in records] == ["held"], "what was under way is kept"


def test_twice_is_fine_and_a_completed_one_says_so() -> None:
    client = KitaruClient()

    @flow
    def done() -> int:
        return quick(1)

    @flow
    def asks() -> bool:
        return bool(kitaru.wait(name="ok"))

    waiting = asks.run()
    assert waiting.settle(60) == "waiting"
    for _ in range(2):
        view = client.executions.cancel(waiting.exec_id)
        assert (view.status, view.waits) == ("cancelled", ())
    with pytest.raises(errors.StateError, match="cannot be resumed"):
        client.executions.resume(waiting.exec_id)
    with pytest.raises(errors.StateError, match="was cancelled"):
        waiting.wait(60)
    completed = done.run()
    completed.wait(60)
    with pytest.raises(errors.StateError, match="is completed"):
        client.executions.cancel(completed.exec_id)
    with pytest.raises(errors.NotFound):
        client.executions.cancel("nobody")


def test_a_body_that_looks_for_an_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    polled = threading.Event()
    monkeypatch.setattr(time, "sleep", lambda _: polled.set() or threading.Event().wait(0.01))

    @flow
    def asks() -> bool:
        return bool(kitaru.wait(name="ok", timeout=100))

    handle = asks.run()
    assert polled.wait(60)
    KitaruClient().executions.cancel(handle.exec_id)
    with pytest.raises(errors.StateError, match="was cancelled"):
        handle.wait(60)


SLOW = """\
from pathlib import Path
import time
from kitaru import checkpoint, flow


@checkpoint
def step(number):
    with Path("calls.txt").open("a") as file:
        file.write(f"{number}\\n")
    deadline = time.monotonic() + 60
    while number == 1 and not Path("go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return number


@flow
def slow():
    futures = [step.submit(number) for number in range(2)]
    first = [future.result() for future in futures]
    return first, step(7)
"""


def test_another_process_is_cancelled(script: Callable[[str], Script]) -> None:
    flows = script(SLOW)
    process = flows.start("flows.slow.options(exec_id='e1').run().wait()")
    wait_until(lambda: "1" in flows.calls() or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    KitaruClient().executions.cancel("e1")
    (flows.file.parent / "go").touch()
    _, log = process.communicate(timeout=240)
    assert process.returncode == 1 and "was cancelled" in log
    assert sorted(flows.calls()) == ["0", "1"]
