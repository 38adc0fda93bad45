"""Invariants at the end of a run: compare all stored data with plain Python."""

from __future__ import annotations

from typing import Any

from kitaru.errors import KitaruError
from kitaru.ops.inbox import inbox
from kitaru.runtime import codec
from kitaru.runtime.executions.listing import list_executions
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.wire import keys
from kitaru.wire.envelope import decode
from kitaru.wire.records import MemoryVersion, stored_values
from tests.simulation.programs import Plain
from tests.simulation.world import Violation, World


def check(world: World) -> dict[str, str]:
    """Check all invariants of the store; return how each execution ended."""
    _check_everything_is_still_there(world)
    ended = {}
    for exec_id in world.executions():
        if not world.was_collected(exec_id):
            ended[exec_id] = _check_execution(world, exec_id)
    _check_acknowledged(world)
    _check_memory(world)
    _check_listing(world)
    _check_inbox(world)
    return ended


def _fail(text: str) -> None:
    raise Violation(text)


def _check_everything_is_still_there(world: World) -> None:
    """I1: no object is lost, except garbage that was collected."""
    objects = world.service.objects
    for key, (_, _, value) in world.commits.items():
        if not world._is_record(key) or objects.get(key) == value:
            continue
        _fail(f"I1: {key} was recorded, and is gone or changed")


def _check_execution(world: World, exec_id: str) -> str:
    journal = world.journal(exec_id)
    records = {record.id: record for record in journal.invocations()}
    for record in records.values():
        for value in stored_values(record):
            try:
                codec.decode(journal.fetch(value))
            except KitaruError as error:
                _fail(f"I2: a value of {record.id} of {exec_id}: {error}")
    for (of, id), digests in world.kept.returned.items():
        if of == exec_id:
            held = records.get(id)
            if held is None or held.value is None or {held.value.digest} != digests:
                _fail(f"I3: {id} of {exec_id} returned something else than is recorded")
    end = journal.end()
    if end is None:
        return "stopped"
    if end.status == "completed" and end.result is not None:
        _check_result(world, journal, codec.decode(journal.fetch(end.result)))
    return end.status


def _check_result(world: World, journal: Journal, result: Any) -> None:
    """I3: the flow returned what plain Python returns."""
    exec_id = journal.exec_id
    if exec_id not in world.kept.inputs or not world.is_consistent(exec_id):
        return
    if exec_id in world.kept.completed and world.kept.completed[exec_id] != result:
        _fail(f"I3: {exec_id} returned {world.kept.completed[exec_id]}, and recorded {result}")
    records = journal.invocations()
    found = {name: journal.wait_answer(name) for name in world.program.waits}
    answers = {name: answer.value for name, answer in found.items() if answer is not None}
    shared = {}
    for record in records:
        if record.id.startswith("memory_") and record.value is not None:
            value = codec.decode(journal.fetch(record.value))
            shared[record.id] = getattr(value, "value", value)
    given = {
        record.id: codec.decode(journal.fetch(record.value))
        for record in records
        if record.value is not None and (record.given or record.kind == "wait")
    }
    source = world.program.sources[world.kept.began_with[exec_id]]
    try:
        expected = Plain(answers, shared, given).run(source, *world.kept.inputs[exec_id])
    except KeyError as error:
        _fail(f"I3: {exec_id} completed, and plain Python needs {error}")
    if expected != result:
        _fail(f"I3: {exec_id} returned {result}, and plain Python {expected}")


def _check_acknowledged(world: World) -> None:
    kept = world.kept
    for (exec_id, name), value in kept.answered.items():
        if world.was_collected(exec_id):
            continue
        held = world.journal(exec_id).wait_answer(name)
        if held is None or held.value != value:
            _fail(f"I1: {name} of {exec_id} was answered with {value}, and has {held}")
    for exec_id in kept.cancelled:
        end = world.end(exec_id)
        if end is None and not world.was_collected(exec_id):
            _fail(f"I1: {exec_id} was cancelled, and is not")
        if end is not None and end.status != "cancelled":
            _fail(f"I4: {exec_id} was cancelled, and is {end.status}")
    for exec_id in kept.started:
        if exec_id not in world.executions() and not world.was_collected(exec_id):
            _fail(f"I1: {exec_id} was started, and is not there")


def _check_memory(world: World) -> None:
    """Check the versions of each key: numbered without a gap, each operation once."""
    record_store = RecordStore(world.service.objects)
    by_key: dict[str, dict[int, str]] = {}
    for key in world.service.objects.list(""):
        if "/version/" not in key or not keys.is_version(key):
            continue
        found = record_store.read(MemoryVersion, key)
        assert found is not None
        by_key.setdefault(key.rpartition("/version/")[0], {})[found.number] = found.operation
    for key, versions in by_key.items():
        if sorted(versions) != list(range(1, len(versions) + 1)):
            _fail(f"memory: {key} has the versions {sorted(versions)}")
        if len(set(versions.values())) != len(versions):
            _fail(f"memory: an operation wrote {key} twice: {versions}")


def _check_listing(world: World) -> None:
    """I5: the listing matches the store, and every object decodes at its own key."""
    objects = world.service.objects
    listed = [item["exec_id"] for item in list_executions(objects, limit=10_000)]
    for exec_id in world.executions():
        if listed.count(exec_id) != 1 and not world.was_collected(exec_id):
            _fail(f"I5: {exec_id} is listed {listed.count(exec_id)} times")
    for key in objects.list("x/"):
        if world._is_record(key):
            data = objects.get(key)
            assert data is not None
            decode(key, data)


def _check_inbox(world: World) -> None:
    """I5: exactly the pending waits of unfinished executions have a hint that the inbox follows."""
    objects = world.service.objects
    # Nothing is listed because it had no hint.
    objects.create(keys.WAITS_LISTED, b"")
    pending = set()
    for exec_id in world.executions():
        journal = world.journal(exec_id)
        is_over = journal.state().status in ("completed", "cancelled", "failed")
        if not is_over and not world.was_collected(exec_id):
            pending |= {(exec_id, name) for name in journal.pending_names()}
    found = {(one.exec_id, one.request.name) for one in inbox(objects, limit=10_000).items}
    found = {one for one in found if not world.was_collected(one[0])}
    if found != pending:
        _fail(f"I5: the inbox contains {sorted(found)}, and {sorted(pending)} are pending")
