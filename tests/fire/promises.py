"""Invariants of an execution for all its processes: I1 to I6, and the state at each end."""

from __future__ import annotations

from typing import Any

from kitaru.runtime import codec
from kitaru.runtime.executions.listing import list_executions
from kitaru.runtime.journal import blobs
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.memory.memories import Memory
from kitaru.runtime.memory.scopes import MemoryScope
from kitaru.stores.memory import MemoryStore
from kitaru.wire import canonical, keys
from kitaru.wire.envelope import decode
from kitaru.wire.records import (
    EndRecord,
    ExecutionRecord,
    ExitRecord,
    InvocationRecord,
    MemoryVersion,
    StoredValue,
    stored_values,
)

from .explore import Asking, Next, Objects, Process, as_store, is_outdated, unlisted

EXEC = "e1"
SCOPE = MemoryScope("execution", EXEC)
LARGE = 60
AT = "2026-11-22T00:00:00.000000Z"


def begun() -> tuple[ExecutionRecord, Objects]:
    store = MemoryStore()
    inputs = blobs.store_value(store, keys.home(EXEC), [1], "inputs")
    record = ExecutionRecord(EXEC, "f", "m", "m.py", "local", inputs, inputs.digest, AT)
    Journal.create(store, record)
    return record, store._objects


RECORD, START = begun()


def changes(before: Objects, after: Objects) -> None:
    """Check I1, I2 and I5 for the stores before and after a transition."""
    for key in before:
        is_kept = after.get(key) == before[key]
        assert is_kept or (key not in after and is_outdated(key, before)), f"I1: {key} changed"
    assert not unlisted(after), f"I1: {unlisted(after)} is asked, and in no inbox"
    for key in after.keys() - before.keys():
        assert_whole(key, after)


def acts(before: Objects, after: Objects, process: Process, next: Next, store: Asking) -> None:
    """Check I3, I4 and I6 for the process of a transition."""
    for what, of, value in next.notes:
        if what == "called":
            looks = {keys.invocation(EXEC, of), *([keys.joined(EXEC)] if store.remote else [])}
            assert looks & store.absent, f"I6: {of} called without a look"
            assert keys.invocation(EXEC, of) not in before, f"I6: {of} called after its record"
        elif what == "returned":
            assert recorded(after, of) == value, f"I3: {of} returned what is not recorded"
        elif what == "ended":
            assert ended_with(after) == value, "I4: a success that is not recorded"
    wrong = isinstance(next.outcome, Exception)
    if wrong and not isinstance(next.outcome, process.may_raise):
        raise AssertionError("I4: nothing went wrong, but it failed") from next.outcome


def assert_whole(key: str, objects: Objects) -> None:
    """Assert I2 for new objects, and I5: a reader sees no incomplete object."""
    apart = ("/blob/", "/mark/", "/segment/", "/joined", "/process/", "/attending/")
    notes = any(part in key for part in apart)
    if key.startswith("x/") and not notes:
        for value in held_in(decode(key, objects[key])):
            if value.blob is not None:
                home = key.rpartition("version/")[0] or keys.home(EXEC)
                data = objects.get(keys.blob(value.home or home, value.digest))
                assert data is not None, f"I2: {key} before its value"
                assert canonical.sha256(data) == value.digest, f"I2: {key} and another value"
            assert not value.outside, "no schedule records what has parts"
    listed = [(item["exec_id"], item["flow"]) for item in list_executions(as_store(objects))]
    assert listed == [(EXEC, "f")], "I5: readers see something else"


def held_in(record: Any) -> list[StoredValue]:
    match record:
        case InvocationRecord():
            return stored_values(record)
        case MemoryVersion(value=StoredValue() as value):
            return [value]
        case EndRecord(result=StoredValue() as value) | ExitRecord(frame=StoredValue() as value):
            return [value]
    return []


def recorded(objects: Objects, id: str) -> Any:
    data = objects.get(keys.invocation(EXEC, id))
    assert data is not None, f"I3: {id} is not recorded"
    if data not in _values:
        journal = Journal(as_store(objects), RECORD)
        record = journal.invocation(id)
        assert record is not None and record.value is not None
        _values[data] = codec.decode(journal.fetch(record.value))
    return _values[data]


# Cache of decoded records, which never change.
_values: dict[bytes, Any] = {}


def ended_with(objects: Objects) -> Any:
    journal = Journal(as_store(objects), RECORD)
    end = journal.end()
    assert end is not None, "I4: success without an end"
    return end.result and codec.decode(journal.fetch(end.result))


# What holds once all have ended


def one_value(objects: Objects, outcomes: list[Any]) -> None:
    assert outcomes == [recorded(objects, "a")] * len(outcomes)


def one_end(objects: Objects, outcomes: list[Any]) -> None:
    """All processes report the same end, completed or cancelled."""
    journal = Journal(as_store(objects), RECORD)
    end = journal.end()
    assert end is not None and journal.state().status == end.status
    *ran, cancelled = outcomes
    assert cancelled == end.status
    assert ran == [ended_with(objects) or "cancelled"] * len(ran)


def one_answer(objects: Objects, outcomes: list[Any]) -> None:
    held = Journal(as_store(objects), RECORD).wait_answer("ok")
    assert held is not None and outcomes[0] in ("waiting", held.value)
    assert sorted(outcomes[1:]) == sorted([f"answered {held.value}", "conflict"])


def answered_or_cancelled(objects: Objects, outcomes: list[Any]) -> None:
    ran, answered, cancelled = outcomes
    end = Journal(as_store(objects), RECORD).end()
    assert end is not None and cancelled == end.status and answered == "answered True"
    assert ran == (ended_with(objects) if end.status == "completed" else ran)
    assert end.status == "completed" or ran in ("waiting", "cancelled")


def cancelled_for_good(objects: Objects, outcomes: list[Any]) -> None:
    assert Journal(as_store(objects), RECORD).state().status == "cancelled"
    listed = [item["status"] for item in list_executions(as_store(objects))]
    assert listed == ["cancelled"]


def one_version_each(objects: Objects, outcomes: list[Any]) -> None:
    found = Memory(as_store(objects), SCOPE, "look").history("k")
    assert [one.version for one in found] == [*range(1, len(found) + 1)], "a version is missing"
    numbers = {one.operation: one.version for one in found}
    assert len(numbers) == len(found), "written twice"
    *ran, (operation, outside) = outcomes
    assert outside == numbers[operation]
    assert ran == [numbers[f"{EXEC}/memory_set"]] * len(ran)


def one_frame(objects: Objects, outcomes: list[Any]) -> None:
    *left, went_on = outcomes
    assert went_on in ("skipped", recorded(objects, "a"))
    one_value(objects, left)
