"""A process killed between the records of an execution and their entries in the index.

A store without transactions, such as a bucket, may then contain any of them, in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from unittest.mock import patch

import pytest

from kitaru.ops.verify import verify
from kitaru.runtime.executions.gc import collect
from kitaru.runtime.executions.listing import list_executions
from kitaru.runtime.journal.journal import Journal
from kitaru.stores.memory import MemoryStore
from kitaru.wire import keys
from kitaru.wire.records import EndRecord, InvocationRecord, WaitRequest

from .harness import EXEC, FaultyStore, Killed, execution

FAULTS = ("killed before", "killed after")


class Backwards(FaultyStore):
    """Creates several objects in the opposite order: a bucket creates them concurrently."""

    def create_all(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        return super().create_all(objects[::-1])[::-1]


def live(store: FaultyStore) -> None:
    """The life of an execution: it starts, waits, continues, fails, is retried and completes."""
    journal = Journal.create(store, execution(store.inner))
    journal.record(InvocationRecord("s", "s", "checkpoint", "m.s", "-", "completed"))
    journal.request_wait(WaitRequest("w", "?", {}, {}, "2026-11-29T10:00:00.000000Z"))
    for status in ("waiting", "running", "failed", "running"):
        journal.set_state(status)  # type: ignore[arg-type]
    journal.finish(EndRecord("completed", None, "2026-11-29T10:00:00.000000Z"))


def operations(kind: type[FaultyStore]) -> int:
    store = kind(MemoryStore())
    live(store)
    return store.count


CASES = [
    (kind, fault, at)
    for kind in (FaultyStore, Backwards)
    for fault in FAULTS
    for at in range(1, operations(kind) + 1)
]


@pytest.mark.parametrize(("kind", "fault", "at"), CASES)
def test_killed_at_each_operation(kind: type[FaultyStore], fault: str, at: int) -> None:
    store = MemoryStore()
    faulty = kind(store, fault, at)  # type: ignore[arg-type]
    with suppress(Killed):
        live(faulty)
    exists = store.get(keys.execution(EXEC)) is not None
    listed = {item["exec_id"]: item["status"] for item in list_executions(store)}
    found = verify(store)
    assert found.findings == ()
    if not exists:
        assert listed == {} and found.notes == ()
        return
    status = Journal.open(store, EXEC).state().status
    if listed:
        # The list states what the journal states, however old its entry is.
        assert listed == {EXEC: status} and found.notes == ()
        for one in ("running", "waiting", "failed", "completed"):
            shown = [item["exec_id"] for item in list_executions(store, status=one)]
            assert shown == ([EXEC] if one == status else [])
    else:
        # The process was killed as it began: nothing ran, and a verification finds it.
        assert status == "running" and not store.list(keys.invocations(EXEC))
        (note,) = found.notes
        where = f"{EXEC} --store {store.url}"
        assert f"kitaru executions resume {where}" in note
        assert f"kitaru executions cancel {where}" in note
    live(FaultyStore(store))
    assert [item["status"] for item in list_executions(store)] == ["completed"]
    with patch("kitaru.runtime.executions.gc._is_recent", return_value=False):
        list(collect(store, timedelta(0)))
        list(collect(store, timedelta(0)))
    assert store.list("") == []
