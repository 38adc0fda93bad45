"""Adoption is all or nothing: a fault at every store operation, and the source never changes."""

from __future__ import annotations

import contextlib

import pytest

from kitaru.errors import StoreUnavailable
from kitaru.runtime.executions.replay import Changes, adopt
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import Store
from kitaru.stores.memory import MemoryStore
from kitaru.wire import keys
from kitaru.wire.records import ExitRecord, InvocationRecord

from .harness import EXEC, FAULTS, LARGE, Fault, FaultyStore, Killed, World, execution

COUNTERS = ({"a": 1}, {"a": 1, "b": 1}, {"a": 1, "b": 1, "c": 1})
# The invocations a, b and c, and the frames that were handed on after a and after b.
ADOPTED = {
    "inv/a",
    "inv/b",
    "exit/a",
    "exit/b",
    "frame/b",
    "frame/c",
    "execution",
    "state/00000001",
    "summary/00000001",
}


def source() -> MemoryStore:
    """Return a store with an execution of three invocations, a step for each."""
    store = MemoryStore()
    journal = Journal.create(store, execution(store))
    for position, id in enumerate("abc", 1):
        value = journal.store_document(LARGE if id == "a" else id)
        journal.record(
            InvocationRecord(
                id, id, "checkpoint", f"m.{id}", "", "completed", value, position=position
            )
        )
    for block, following, counters in zip("abc", "bcd", COUNTERS, strict=True):
        frame = journal.store_document({"counters": counters, "variables": LARGE})
        journal.record_exit(ExitRecord(block, "go", following, frame))
        journal.set_frame_pointer(following, {"from": block})
    return store


def held(store: Store, exec_id: str) -> set[str]:
    found = {key.removeprefix(keys.home(exec_id)) for key in store.list(keys.home(exec_id))}
    # Which process runs it is nobody's to adopt.
    return {key for key in found if not key.startswith("process/")}


def others(store: Store) -> set[str]:
    """Return the ids of the executions that exist beside the source."""
    found = {key.split("/")[1] for key in store.list("x/") if key.endswith("/execution")}
    return found - {EXEC}


def test_frames_are_adopted_as_far_as_nothing_that_runs_again_was_called() -> None:
    store = source()
    begun = adopt(Journal.open(store, EXEC), Changes(start="c"))
    assert held(store, begun.exec_id) == ADOPTED
    left = begun.exit("b")
    assert left is not None and left.frame is not None
    assert begun.fetch(left.frame)["variables"] == LARGE
    record = begun.invocation("a")
    assert record is not None and record.value is not None
    assert begun.fetch(record.value) == LARGE
    given = adopt(Journal.open(store, EXEC), Changes(start="c", results={"b": "given"}))
    assert {"exit/a", "frame/b"} <= held(store, given.exec_id)
    assert "exit/b" not in held(store, given.exec_id), "that frame may hold the other result"
    other = adopt(Journal.open(store, EXEC), Changes(start="c"), inputs={"n": 2})
    assert "exit/a" not in held(store, other.exec_id), "frames may hold the other input"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_every_operation(fault: Fault) -> None:
    for at in range(1, 200):
        world = World(source())
        world.look()
        store = FaultyStore(world.store, fault, at)
        with contextlib.suppress(Killed, StoreUnavailable):
            adopt(Journal.open(store, EXEC), Changes(start="c"))
        for exec_id in others(world.store):
            missing = ADOPTED - held(world.store, exec_id)
            state = {"state/00000001", "summary/00000001"}
            assert missing <= state, "an existing execution is complete"
        world.look()
        begun = adopt(Journal.open(world.store, EXEC), Changes(start="c"))
        assert held(world.store, begun.exec_id) == ADOPTED
        world.look()
        if store.count < at:
            break
    assert at > 12
