"""Faults of the product that the simulation found, each reproduced without the simulation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import pytest

from kitaru import KitaruClient, checkpoint, flow
from kitaru.errors import Diverged
from kitaru.ops.cancel import cancel
from kitaru.runtime import codec
from kitaru.runtime.engine import declared_changes
from kitaru.runtime.engine.local_run import LocalRun
from kitaru.runtime.executions.listing import list_executions
from kitaru.runtime.journal import states
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.telemetry import beats
from kitaru.stores.memory import MemoryStore
from kitaru.wire import keys
from kitaru.wire.records import InvocationRecord
from tests.simulation.programs import load
from tests.simulation.run import simulate

called: list[str] = []


@checkpoint(retries=1, retry_delay=30)
def unreliable() -> str:
    called.append("unreliable")
    raise ConnectionError("not reachable")


@flow
def asks_once() -> str:
    return unreliable()


def test_a_retry_takes_what_another_process_recorded_in_its_pause() -> None:
    store = MemoryStore()
    called.clear()

    def other_process(run: LocalRun, seconds: float) -> None:
        journal = Journal.open(store, "e1")
        journal.record(
            InvocationRecord(
                id="unreliable",
                name="unreliable",
                kind="checkpoint",
                callee=unreliable.spec.callee,
                arguments_digest=codec.digest_arguments((), {}).digest,
                status="completed",
                value=journal.store_value("theirs", "result"),
            )
        )

    with patch.object(LocalRun, "pause", other_process):
        assert asks_once.options(store=store, exec_id="e1").run().wait() == "theirs"
    assert called == ["unreliable"]


class Commits(MemoryStore):
    """A store that records which objects are created together."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[str]] = []

    def create_all(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        self.seen.append([key for key, _ in objects])
        return super().create_all(objects)


@checkpoint
def first(n: int) -> int:
    return n + 1


@flow
def simple(n: int) -> int:
    return first(n)


def test_an_execution_and_the_mark_of_its_process_are_one_commit() -> None:
    store = Commits()
    simple.options(store=store, exec_id="e1").run(1).wait()
    replay = KitaruClient(store).executions.get("e1").exec_id
    handle = simple.replay(replay, store=store)
    handle.wait()
    for exec_id in ("e1", handle.exec_id):
        (commit,) = [seen for seen in store.seen if keys.execution(exec_id) in seen]
        assert any(key.startswith(keys.processes(exec_id)) for key in commit)


CODE = """
import kitaru
from kitaru import checkpoint, flow

@checkpoint
def research(n: int) -> int:
    return n + 1

@checkpoint
def {pay}(n: int) -> int:
    kitaru.log(paid=n)
    return n

@checkpoint
def check(n: int) -> int:
    if n > 0:
        raise ConnectionError("not reachable")
    return n

@flow
def simulated(n: int) -> int:
    return check({pay}(research(n)))
"""


def test_a_resumed_replay_runs_nothing_again_under_another_name() -> None:
    """It reused `research` and recorded `send` itself. Then the code was changed."""
    store = MemoryStore()
    before, after = (load(CODE.format(pay=name))[0] for name in ("send", "pay"))
    before.simulated.options(store=store, exec_id="e1").run(1).settle()
    handle = before.simulated.replay("e1", start="send", store=store)
    handle.settle()
    journal = Journal.open(store, handle.exec_id)
    assert journal.invocation("send") is not None
    with pytest.raises(Diverged, match="send"):
        after.simulated.resume(handle.exec_id, store=store).wait()
    assert journal.invocation("pay") is None


def test_a_replay_may_run_other_code_than_its_source() -> None:
    store = MemoryStore()
    before, after = (load(CODE.format(pay=name))[0] for name in ("send", "pay"))
    before.simulated.options(store=store, exec_id="e1").run(1).settle()
    handle = after.simulated.replay("e1", start="check", store=store)
    handle.settle()
    assert Journal.open(store, handle.exec_id).invocation("pay") is not None
    assert not declared_changes.declared() and Path(after.__file__ or "").is_file()


def killed(*_: object, **__: object) -> None:
    raise SystemExit


def test_an_execution_that_was_cancelled_before_it_was_listed_is_listed() -> None:
    """Its process was killed after its first record, and so was the process that cancelled it."""
    store = MemoryStore()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(states, "write_first_state", killed)
        asks_once.options(store=store, exec_id="e1").run()
    assert not list_executions(store)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(states, "write_state", killed)
        cancel(store, "e1")
    (item,) = list_executions(store)
    assert (item["exec_id"], item["status"]) == ("e1", "cancelled")


def test_a_real_thread_of_beats_does_not_stop_the_simulation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # It wakes up while the simulation runs.
    monkeypatch.setattr(beats, "_PAUSE", 0.001)
    left = beats.Beats(MemoryStore("memory:left"), "left")
    left.began("slow", 1, "flow.py:1")
    assert beats._thread is not None and beats._thread.is_alive()
    assert simulate(1).failure is None
