"""Logs of entries with numbers from 1 without a gap, the newest of which has the whole state.

The process that creates the next number has decided. Another reads it, and decides anew.
"""

from __future__ import annotations

from typing import TypeVar

from kitaru.runtime.journal.record_store import RecordStore
from kitaru.wire import keys
from kitaru.wire.records import EventEntry, LimitEntry, ScheduleEntry

E = TypeVar("E", ScheduleEntry, EventEntry, LimitEntry)


def newest(records: RecordStore, kind: type[E], log: str, at_least: int = 0) -> E | None:
    """Return the newest entry below the prefix `log`. A list says where to look; reads decide."""
    listed: list[str] = records.store.list(log, limit=1)
    number = max([at_least, *map(keys.version_number, listed)])
    found = records.read(kind, keys.numbered(log, number)) if number else None
    while (more := records.read(kind, keys.numbered(log, number + 1))) is not None:
        found, number = more, number + 1
    return found
