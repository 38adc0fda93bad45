"""A fault at every store operation, one after the other; after each, recovery and I1 to I6."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kitaru.errors import RecordCorrupt, StoreUnavailable
from kitaru.runtime.journal import blobs, record_store
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import Store
from kitaru.stores.memory import MemoryStore
from kitaru.wire.records import InvocationRecord

from .harness import FAULTS, Fault, FaultyStore, World, check, execution, flow, recover


def every_fault(make: Callable[[int], Store], fault: Fault) -> int:
    """Run the flow with the fault at operation 1, 2, 3… until a run sees none; return how many."""
    for at in range(1, 1000):
        world = World(make(at))
        store = FaultyStore(world.store, fault, at)
        result = recover(world, lambda: flow(world, store))  # noqa: B023 - run at once
        check(world, result)
        world.store.close()
        if store.count < at:
            return at - 1
    raise AssertionError("the flow does not end")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_every_operation_in_memory(fault: Fault) -> None:
    assert every_fault(lambda at: MemoryStore(), fault) > 30


@pytest.mark.parametrize("fault", ["timeout before", "timeout after"])
def test_the_same_call_again_after_a_timeout_is_no_second_write(fault: Fault) -> None:
    world = World(MemoryStore())
    store = FaultyStore(world.store)
    journal = Journal.create(store, execution(store))
    store.fault, store.at = fault, store.count + 1
    with pytest.raises(StoreUnavailable):
        journal.set_state("waiting")
    journal.set_state("waiting")
    assert journal.state().number == 2


# Ways to get the journal wrong, to show that the harness would see them.


class OverwritingStore(MemoryStore):
    def create(self, key: str, value: bytes) -> bool:
        self.delete(key)
        return super().create(key, value)


class ForgetfulStore(MemoryStore):
    def create(self, key: str, value: bytes) -> bool:
        return "/blob/" in key or super().create(key, value)


def _exists_is_an_error(store: Store, key: str, data: bytes) -> bytes:
    assert store.create(key, data), "exists"
    return data


@pytest.mark.parametrize(
    ("store", "error", "broken"),
    [
        (OverwritingStore, AssertionError, "I1"),
        (ForgetfulStore, RecordCorrupt, "missing or damaged"),
    ],
)
def test_the_harness_sees_a_store_that_breaks_its_promise(
    store: type[MemoryStore], error: type[Exception], broken: str
) -> None:
    with pytest.raises(error, match=broken):
        every_fault(lambda at: store(), "killed after")


def test_the_harness_sees_a_journal_that_does_not_adopt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_store, "create_or_read", _exists_is_an_error)
    with pytest.raises(AssertionError, match="exists"):
        every_fault(lambda at: MemoryStore(), "killed after")


def test_the_harness_sees_a_record_before_its_blob(monkeypatch: pytest.MonkeyPatch) -> None:
    late: list[tuple[Store, str, bytes]] = []

    def record(journal: Journal, rec: InvocationRecord, **options: str) -> InvocationRecord:
        held = original(journal, rec, **options)
        while late:
            store, key, data = late.pop()
            store.create(key, data)
        return held

    def put_later(store: Store, home: str, digest: str, data: bytes) -> None:
        late.append((store, f"{home}blob/{digest.removeprefix('sha256:')}", data))

    original = Journal.record
    monkeypatch.setattr(Journal, "record", record)
    monkeypatch.setattr(blobs, "_put_blob", put_later)
    with pytest.raises(RecordCorrupt, match="missing or damaged"):
        every_fault(lambda at: MemoryStore(), "killed after")
