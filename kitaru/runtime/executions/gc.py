"""Garbage collection of executions, in an order that never leaves a partial execution.

An execution is marked first. From then on no new replay may refer to it. Its end is recorded, so
that no process resumes it. It is removed from the listings and the cache. Then its execution record
is removed, followed by all other objects. Its mark and its end stay until a later collection. A
process that outlived its execution finds that it has ended, and the later collection removes the
objects that it wrote.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any

from kitaru.runtime.executions.listing import each_execution
from kitaru.runtime.journal import launches, subscriptions
from kitaru.runtime.journal.blobs import create_or_read
from kitaru.runtime.journal.cache import cache_key
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.journal.states import read_state
from kitaru.stores.base import Store, existing
from kitaru.wire import keys
from kitaru.wire.records import CacheHint, EndRecord, ExecutionRecord
from kitaru.wire.structs import Struct
from kitaru.wire.times import ago, now

_OVER = ("completed", "cancelled", "failed")
# Longer than the time between two operations of a live process.
_SETTLED = timedelta(hours=1)
_AT_ONCE = 20


class Removed(Struct):
    """A removed execution (or one to remove, in a dry run): its final status and object count."""

    exec_id: str
    flow: str
    status: str
    started_at: str
    objects: int


def collect(store: Store, older_than: timedelta, *, dry_run: bool = False) -> Iterator[Removed]:
    """Remove executions that ended or failed before a cutoff; yield each one after its removal.

    Running and waiting executions are kept, and so are the sources of replays that are kept, since
    a replay refers to their large values. Cached results are removed with their execution. Memories
    that outlive an execution, bundles and injected inputs are kept. The collection may be
    interrupted and started again at any time.

    Args:
        older_than: minimum time since an execution reached its last status.
        dry_run: yield the executions that would be removed, and remove nothing.

    Raises:
        EnvironmentFailure: the store cannot be read or written.
    """
    if not dry_run:
        _drop_budgets(store)
        marks = iter(store.list(keys.GARBAGE))
        while some := list(islice(marks, _AT_ONCE)):
            exec_ids = (mark.removeprefix(keys.GARBAGE) for mark in some)
            store.concurrently(*[partial(_remove, store, exec_id) for exec_id in exec_ids])
    gone: set[str] = set()
    for items in _old(store, ago(older_than)):
        yield from _collect_batch(store, items, gone, dry_run=dry_run)


def _drop_budgets(store: Store) -> None:
    """Delete the chunks of budgets of earlier days than yesterday, and those of quotas.

    A quota's window lasts for seconds. Who works in one that is deleted may send a little more.
    """
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    old = [key for key in store.list(keys.BUDGET) if keys.budget_day(key) < yesterday]
    old += store.list(keys.QUOTA)
    if old:
        store.delete(*old)


def _collect_batch(
    store: Store, items: list[dict[str, Any]], gone: set[str], *, dry_run: bool
) -> Iterator[Removed]:
    """Remove several executions concurrently, add them to `gone` and yield them.

    The source of a replay is removed after the replay, so kept executions are checked again as long
    as others are removed.
    """
    remaining = items
    while remaining:
        objects: dict[str, int] = {}
        ids = [item["exec_id"] for item in remaining]
        store.concurrently(*[partial(_count, store, exec_id, gone, objects) for exec_id in ids])
        removed = set(objects)
        if not dry_run and objects:
            removed.clear()
            store.concurrently(*[partial(_mark_and_remove, store, one, removed) for one in objects])
        gone |= removed
        for item in remaining:
            if item["exec_id"] in removed:
                yield Removed(objects=objects[item["exec_id"]], **item)
        remaining = (
            [item for item in remaining if item["exec_id"] not in objects] if removed else []
        )


def _count(store: Store, exec_id: str, gone: Container[str], objects: dict[str, int]) -> None:
    """Add the number of an execution's objects to `objects`, if no replay refers to it."""
    if not _is_kept(store, exec_id, gone):
        objects[exec_id] = len(store.list(keys.home(exec_id)))


def _old(store: Store, moment: str) -> Iterator[list[dict[str, Any]]]:
    """Yield the executions that ended before `moment`, newest start first, in batches."""
    candidates = each_execution(store, started_before=moment)
    over = (item for item in candidates if item["status"] in _OVER)
    while some := list(islice(over, _AT_ONCE)):
        found: dict[str, str] = {}
        store.concurrently(*[partial(_learn_when, store, item, found) for item in some])
        yield [item for item in some if found[item["exec_id"]] < moment]


def _learn_when(store: Store, item: dict[str, Any], found: dict[str, str]) -> None:
    found[item["exec_id"]] = read_state(RecordStore(store), item["exec_id"], item["started_at"]).at


def _is_kept(store: Store, exec_id: str, gone: Container[str] = ()) -> bool:
    """Return whether a replay refers to an execution. Replays that are `gone` do not count."""
    notes = store.list(keys.replays(exec_id))
    replays = [note.rpartition("/")[2] for note in notes]
    records = store.get_all([keys.execution(replay) for replay in replays])
    return any(
        replay not in gone and (record is not None or _is_recent(store, note))
        for note, replay, record in zip(notes, replays, records, strict=True)
    )


def _is_recent(store: Store, note: str) -> bool:
    """Return whether the writer of a note may still be about to use it."""
    written = store.get(note)
    return written is not None and written.decode("ascii") > ago(_SETTLED)


def _mark_and_remove(store: Store, exec_id: str, removed: set[str]) -> None:
    create_or_read(store, keys.garbage(exec_id), now().encode("ascii"))
    if _remove(store, exec_id):
        removed.add(exec_id)


def _remove(store: Store, exec_id: str) -> bool:
    """Remove a marked execution completely; return False if it must stay."""
    record_store = RecordStore(store)
    record = record_store.read(ExecutionRecord, keys.execution(exec_id))
    if record is None:
        _sweep(store, exec_id)
        return True
    state = read_state(record_store, exec_id, record.started_at)
    if state.status not in _OVER or _is_kept(store, exec_id):
        if not _is_recent(store, keys.garbage(exec_id)):
            store.delete(keys.garbage(exec_id))
        return False
    record_store.write(keys.end(exec_id), EndRecord("cancelled", None, state.at))
    # Before its record: a hint of an execution that is gone would look like one that is to start.
    store.delete(*store.list(keys.due_now(exec_id)), *store.list(keys.open_rounds(exec_id)))
    store.delete(*store.list(keys.news(exec_id)))
    store.delete(*store.list(keys.indexed(record.started_at, exec_id)))
    journal = Journal(store, record)
    store.delete(*_hints(journal), *journal.listed_waits(), *_cancel_hints(store, exec_id))
    store.delete(keys.execution(exec_id))
    if record.replay is not None:
        store.delete(keys.replay(record.replay.source, exec_id))
    _sweep(store, exec_id)
    return True


def _hints(journal: Journal) -> list[str]:
    """Return the keys of the cache hints that point to an execution."""
    records = journal.each_invocation()
    places = (keys.cache(cache_key(record)) for record in records if record.fingerprint)
    read = RecordStore(journal.store).verify
    hints = ((key, read(CacheHint, key, data)) for key, data in existing(journal.store, places))
    return [key for key, hint in hints if hint.exec_id == journal.exec_id]


def _cancel_hints(store: Store, exec_id: str) -> list[str]:
    launch = launches.recall(store, exec_id)
    return [] if launch is None else subscriptions.cancel_hints(exec_id, launch)


def _sweep(store: Store, exec_id: str) -> None:
    """Remove the remaining objects of a removed execution, results before their values."""
    end, mark = keys.end(exec_id), keys.garbage(exec_id)
    store.delete(*store.list(keys.invocations(exec_id)))
    store.delete(*[key for key in store.list(keys.home(exec_id)) if key != end])
    for note in store.list(keys.replays(exec_id)):
        store.delete(*store.list(keys.home(note.rpartition("/")[2])), note)
    if not _is_recent(store, mark):
        store.delete(end, mark)
