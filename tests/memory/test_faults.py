"""A fault at every store operation of an execution that uses memory, each followed by a resume.

A process does what the engine does: read the journal, perform, record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kitaru.errors import MemoryConflict, RecordCorrupt, StoreUnavailable
from kitaru.runtime import codec
from kitaru.runtime.journal import blobs
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.memory.memories import Memory
from kitaru.stores import Store
from kitaru.stores.memory import MemoryStore
from kitaru.wire.envelope import decode
from kitaru.wire.records import InvocationRecord, MemoryVersion
from tests.journal.harness import EXEC, FAULTS, Fault, FaultyStore, Killed, execution
from tests.journal.schedules import Runner, every_schedule, run

from .conftest import SCOPE, operations_on

LARGE = "large" * 20_000
Result = list[Any]


def perform(journal: Journal, id: str, operate: Callable[[Memory], Any]) -> Any:
    """Do what an engine does with one operation of memory in a flow's body."""
    held = journal.invocation(id)
    if held is None:
        operation = f"{journal.exec_id}/{id}"
        memory = Memory(
            journal.store, SCOPE, operation, lambda newest: journal.declare_write(id, newest)
        )
        value = journal.store_document(codec.encode(operate(memory)))
        held = journal.record(
            InvocationRecord(id, id, "memory", f"kitaru.{id}", "", "completed", value)
        )
    assert held.value is not None
    return codec.decode(journal.fetch(held.value))


def flow(store: Store) -> Result:
    """One process's run of a flow that only remembers."""
    journal = Journal.create(store, execution(store))
    return [
        perform(journal, "set", lambda m: m.set("k", 1)),
        perform(journal, "set_2", lambda m: m.set("k", LARGE)),
        perform(journal, "set_3", lambda m: m.set("k", 3, expect=2)),
        perform(journal, "get", lambda m: m.entry("k").value),
        perform(journal, "delete", lambda m: m.delete("k")),
        perform(journal, "list", lambda m: m.list()),
        perform(journal, "set_4", lambda m: m.set("k", 5)),
        perform(journal, "set_5", lambda m: m.set("other", LARGE)),
        perform(journal, "list_2", lambda m: m.list()),
        perform(journal, "delete_2", lambda m: m.delete("never")),
    ]


EXPECTED = [1, 2, 3, 3, True, [], 5, 1, ["k", "other"], False]
WRITERS = ["set", "set_2", "set_3", "delete", "set_4"]


def readable(store: Store) -> None:
    """Read every version there is, as anybody may at any time."""
    look = operations_on(store)
    for key in ("k", "other"):
        for version in look().history(key):
            look().entry(key, version.version)


def check(store: Store) -> None:
    """Hold the store against what must be true after the flow has ended."""
    look = operations_on(store)
    history = look().history("k")
    assert [v.version for v in history] == [1, 2, 3, 4, 5], "a version twice, or none"
    assert [v.operation for v in history] == [f"{EXEC}/{id}" for id in WRITERS]
    assert [v.version for v in look().history("other")] == [1]
    large = look().entry("other")
    assert large is not None and large.value == LARGE, "a record before its value"
    assert look().list() == ["k", "other"]
    for key in store.list(""):
        data = store.get(key)
        if data and "/blob/" not in key:
            decode(key, data)


def every_fault(fault: Fault, make: type[MemoryStore] = MemoryStore) -> int:
    for at in range(1, 1000):
        store = make()
        faulty = FaultyStore(store, fault, at)
        seen: dict[str, bytes | None] = {}
        try:
            result = flow(faulty)
        except (Killed, StoreUnavailable):
            readable(store)
            seen = {key: store.get(key) for key in store.list("")}
            result = flow(FaultyStore(store))
        assert result == EXPECTED, (fault, at)
        assert all(store.get(key) == data for key, data in seen.items()), "something changed"
        check(store)
        if faulty.count < at:
            return at - 1
    raise AssertionError("the flow does not end")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_every_operation(fault: Fault) -> None:
    assert every_fault(fault) > 60


class NoLists(MemoryStore):
    """A store whose lists of versions are always empty."""

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[str]:
        return [] if "/version/" in prefix else super().list(prefix, after=after, limit=limit)


@pytest.mark.parametrize("fault", ["killed after", "timeout after"])
def test_a_fault_at_every_operation_without_lists(fault: Fault) -> None:
    assert every_fault(fault, NoLists) > 60


def test_two_faults_one_after_the_other() -> None:
    for first in range(1, 60):
        for second in range(1, 20, 3):
            store = MemoryStore()
            for at in (first, second):
                with suppress(Killed):
                    flow(FaultyStore(store, "killed after", at))
            assert flow(store) == EXPECTED
            check(store)


def test_the_harness_sees_an_operation_that_does_not_look_for_its_own_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Journal, "declare_write", lambda journal, id, newest: newest)
    with pytest.raises((AssertionError, MemoryConflict)):
        every_fault("killed after")


def test_the_harness_sees_a_version_before_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    put, write, late = blobs._put_blob, Memory._write, []

    def put_later(store: Store, home: str, digest: str, data: bytes) -> None:
        if home.startswith("memory/"):
            late.append((store, home, digest, data))
        else:
            put(store, home, digest, data)

    def write_first(memory: Memory, *arguments: Any) -> MemoryVersion | None:
        held = write(memory, *arguments)
        for item in [item for item in late if item[0] is memory.store]:
            late.remove(item)
            put(*item)
        return held

    monkeypatch.setattr(blobs, "_put_blob", put_later)
    monkeypatch.setattr(Memory, "_write", write_first)
    with pytest.raises(RecordCorrupt, match="missing or damaged"):
        every_fault("killed after")


# Races, in every order that store operations can come in


def writing(name: str, floors: dict[str, int] | None = None) -> Runner:
    """Return a process that performs the operation `name`; `floors` are what its intents hold."""

    def work(store: Store) -> None:
        known = {} if floors is None else floors
        memory = Memory(store, SCOPE, name, lambda newest: known.setdefault(name, newest))
        memory.set("k", name)

    return work


def versions(store: Store) -> list[str]:
    found = operations_on(store)().history("k")
    assert [v.version for v in found] == list(range(1, len(found) + 1))
    return [v.operation for v in found]


@pytest.mark.parametrize("kill_at", range(6))
def test_two_processes_of_one_execution_write_one_version(kill_at: int) -> None:
    def attempt(choices: Sequence[int]) -> list[int]:
        store, floors = MemoryStore(), dict[str, int]()
        writing("first")(store)
        runners = [writing("e/set", floors)] * 2
        widths = run(store, runners, choices, kill_at)
        assert versions(store) == ["first", "e/set"]
        return widths

    assert every_schedule(attempt) > 4


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=30), st.integers(0, 8))
def test_an_operation_in_two_processes_among_others(choices: list[int], kill_at: int) -> None:
    store, floors = MemoryStore(), dict[str, int]()
    runners = [writing("e/set", floors), writing("e/set", floors), writing("x"), writing("y")]
    run(store, runners, choices, kill_at)
    assert sorted(versions(store)) == ["e/set", "x", "y"]


def test_two_executions_write_two_versions() -> None:
    def attempt(choices: Sequence[int]) -> list[int]:
        store = MemoryStore()
        runners = [writing("e1/set"), writing("e2/set")]
        widths = run(store, runners, choices, 0)
        assert sorted(versions(store)) == ["e1/set", "e2/set"]
        return widths

    assert every_schedule(attempt) > 50


def test_a_set_and_a_delete_leave_a_list_that_is_right() -> None:
    def attempt(choices: Sequence[int]) -> list[int]:
        store = MemoryStore()
        look = operations_on(store)
        look().set("k", 0)

        def delete(store: Store) -> None:
            Memory(store, SCOPE, "delete").delete("k")

        widths = run(store, [delete, writing("set")], choices, 0)
        order = versions(store)[1:]
        assert sorted(order) == ["delete", "set"]
        assert look().list() == ([] if order[-1] == "delete" else ["k"])
        return widths

    assert every_schedule(attempt) > 50


def test_of_two_that_expect_the_same_version_one_writes() -> None:
    def attempt(choices: Sequence[int]) -> list[int]:
        store = MemoryStore()
        told: list[object] = []

        def expecting(name: str) -> Runner:
            def work(store: Store) -> None:
                try:
                    told.append(Memory(store, SCOPE, name).set("k", name, expect=0))
                except MemoryConflict as conflict:
                    told.append(conflict.version)

            return work

        widths = run(store, [expecting("a"), expecting("b")], choices, 0)
        assert told == [1, 1]
        assert len(versions(store)) == 1
        return widths

    assert every_schedule(attempt) > 20
