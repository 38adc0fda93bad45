"""What an execution writes before it waits for events, or before events may cancel it.

See `kitaru.runtime.journal.events`.
"""

from __future__ import annotations

from typing import Any

from kitaru.runtime.journal.blobs import create_or_read
from kitaru.runtime.journal.numbered_logs import newest
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.stores.base import Store
from kitaru.wire import canonical, keys
from kitaru.wire.events import match_digest
from kitaru.wire.records import EventEntry, LaunchRecord
from kitaru.wire.times import now


def newest_entry(records: RecordStore, at_least: int = 0) -> EventEntry | None:
    """Return the newest entry of the log of events; None before the first."""
    return newest(records, EventEntry, keys.event_log(), at_least)


def next_number(records: RecordStore) -> int:
    """Return the first free number of the log: events count from it that come from now on."""
    head = newest_entry(records)
    return 1 if head is None else head.number + 1


def note_paths(store: Store, name: str, match: dict[str, Any]) -> None:
    """Record by which paths of the data events of a name are selected."""
    paths = sorted(match)
    shape = match_digest(dict.fromkeys(paths))
    create_or_read(store, keys.event_shape(name, shape), canonical.dumps(paths))


def subscribe_cancels(store: Store, exec_id: str, launch: LaunchRecord) -> None:
    """Create the hints of the events that cancel an execution, before its launch."""
    for one, key in zip(launch.cancel_on["events"], cancel_hints(exec_id, launch), strict=True):
        note_paths(store, one["name"], one["match"])
        create_or_read(store, key, now().encode("ascii"))


def cancel_hints(exec_id: str, launch: LaunchRecord) -> list[str]:
    """Return the keys of the hints of the events that cancel an execution."""
    return [
        keys.subscriber(one["name"], match_digest(one["match"]), exec_id, keys.cancelling(number))
        for number, one in enumerate(launch.cancel_on.get("events", ()))
    ]
