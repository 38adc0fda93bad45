"""Append entries to the log of events. The process that creates a number has decided it.

Before entry k is created, the numbers of the entries of all events before it are recorded, up to
those of entry k - 1. So an event is in the log if its number is recorded, or if the newest entry
contains it.
"""

from __future__ import annotations

from collections.abc import Sequence

from kitaru.runtime.journal.blobs import create_or_read
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.wire import keys
from kitaru.wire.records import EventEntry
from kitaru.wire.times import now


def append(
    records: RecordStore,
    head: EventEntry | None,
    events: Sequence[tuple[str, str]] = (),
    triggers: str | None = None,
) -> int:
    """Append an entry after the newest one; return its number, 0 if another process was first.

    Args:
        events: digest and name of each event.
        triggers: digest of the flows that events start from now on; default as in `head`.
    """
    store, number = records.store, 1
    held = ""
    if head is not None:
        place = str(head.number).encode("ascii")
        store.create_all([(keys.event_place(digest), place) for digest, _ in head.events])
        number, held = head.number + 1, head.triggers
    entry = EventEntry(
        number,
        now(),
        tuple([digest, name] for digest, name in events),
        held if triggers is None else triggers,
    )
    if events:
        # Before the entry: if this process dies after it, a dispatcher finds the hint.
        create_or_read(store, keys.due_entry(number), now().encode("ascii"))
    return number if records.try_create(keys.event_entry(number), entry) else 0
