"""Events that an execution waits for, and the log that gives all events one order.

    sender       hint, then event/id/<digest>
    sequencer    hint, then event/log/<k> with up to 500 events; see `kitaru.ops.events`
    waiter       subscribed/<name>/<values>/<execution>/<wait>, then the request with `from`
    anybody      x/<execution>/wait/<wait>/answer/1 <- the first event from `from` that fits

`from` is the first number of the log that was free when the wait was recorded. The answer is a
function of `from` and of the log, so everybody who computes it writes the same. No wake-up is
lost: the sequencer writes its entry and then lists the subscriptions, a waiter writes its
subscription and then reads the log. The second of the two sees the first. A dispatcher compares
all subscriptions again now and then: a list may be old, and a waiter may have been killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kitaru.errors import EnvironmentFailure
from kitaru.runtime.journal import rounds
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.journal.subscriptions import next_number, note_paths
from kitaru.stores.base import Store
from kitaru.wire import expressions, keys
from kitaru.wire.events import match_digest, matches
from kitaru.wire.flow_events import INPUT
from kitaru.wire.records import (
    EventEntry,
    EventRecord,
    ExecutionRecord,
    LaunchRecord,
    WaitAnswer,
    WaitRequest,
)
from kitaru.wire.structs import replace
from kitaru.wire.times import now

_AT_ONCE = 64


def placed(records: RecordStore, request: WaitRequest, first: WaitRequest | None) -> WaitRequest:
    """Return a request for an event with the place in the log from which events count.

    Args:
        first: the request that was recorded before. Its place counts.
    """
    if first is not None:
        held = {name: first.event[name] for name in ("since", "from")}
        return replace(request, event={**request.event, **held})
    number = next_number(records)
    since = request.event["since"]
    while since and number > 1:
        entry = records.read(EventEntry, keys.event_entry(number - 1))
        if entry is None or entry.at < since:
            break
        number -= 1
    return replace(request, event={**request.event, "from": number})


def subscription(exec_id: str, request: WaitRequest) -> str:
    """Return the key of the hint that an execution waits for an event."""
    asked = request.event
    return keys.subscriber(asked["name"], match_digest(asked["match"]), exec_id, request.name)


def note_shape(store: Store, request: WaitRequest) -> None:
    """Record by which paths of the data a wait selects events, so that a sequencer finds it."""
    note_paths(store, request.event["name"], request.event["match"])


def first_match(
    records: RecordStore, request: WaitRequest, start: int = 0
) -> tuple[EventRecord | None, int]:
    """Return the first event that a wait asks for, and the number of the next entry to look at.

    Args:
        start: entries before this number are known not to contain one.

    Raises:
        EnvironmentFailure: the library for expressions is missing.
    """
    number = max(start, request.event["from"])
    return first_event(records, request.event["name"], number, lambda one: fits(request, one))


def first_cancel(
    records: RecordStore, launch: LaunchRecord, which: int, start: int = 0
) -> tuple[EventRecord | None, int]:
    """Return the first event that cancels an execution, as `first_match` does for a wait.

    Args:
        which: the number of the pattern among those of its launch.
    """
    number = max(start, _from(launch))
    name = launch.cancel_on["events"][which]["name"]
    return first_event(records, name, number, lambda one: cancels(launch, which, one))


def _from(launch: LaunchRecord) -> int:
    """Return the number of the first entry whose events cancel an execution."""
    number: int = launch.cancel_on["from"]
    return number


def cancels(launch: LaunchRecord, which: int, event: EventRecord) -> bool:
    """Return whether an event cancels an execution, apart from its place in the log."""
    asked = launch.cancel_on["events"][which]
    if event.name != asked["name"] or not matches(asked["match"], event.data):
        return False
    if not asked["where"]:
        return True
    inputs = {**launch.cancel_on["defaults"], **launch.inputs}
    return expressions.is_true(asked["where"], {**as_context(event), INPUT: inputs})


def first_event(
    records: RecordStore, name: str, number: int, is_wanted: Callable[[EventRecord], bool]
) -> tuple[EventRecord | None, int]:
    """Return the first wanted event from an entry on, and the number of the next entry."""
    for entry in _entries(records, number):
        for event in _of_name(records, entry, name):
            if is_wanted(event):
                return event, entry.number
        number = entry.number + 1
    return None, number


def fits(request: WaitRequest, event: EventRecord) -> bool:
    """Return whether an event is one that a wait asks for, apart from its place in the log."""
    asked = request.event
    if event.name != asked["name"] or event.at < asked["since"]:
        return False
    if not matches(asked["match"], event.data):
        return False
    return not asked["where"] or expressions.is_true(asked["where"], as_context(event))


def as_context(event: EventRecord) -> dict[str, Any]:
    """Return the variables of an expression on an event."""
    return {"id": event.id, "name": event.name, "at": event.at, "data": event.data}


def look(
    records: RecordStore, execution: ExecutionRecord, request: WaitRequest, start: int = 0
) -> tuple[WaitAnswer | None, int]:
    """Answer a wait with the first event that fits, if there is one.

    Returns the answer that counts, which may be an earlier expiry, or None, and the number of the
    next entry to look at. A step without the library for expressions leaves them to a dispatcher.

    Raises:
        EnvironmentFailure: the store does not answer.
    """
    if request.event["where"] and not expressions.is_installed():
        return None, start
    event, number = first_match(records, request, start)
    if event is None:
        return None, number
    made = WaitAnswer(request.name, "event", event.data, now(), by=f"event {event.id}")
    return rounds.write_answer(records, execution, made), number


def read_events(records: RecordStore, digests: list[str]) -> list[EventRecord]:
    """Return the events with these digests that are stored."""
    return records.read_all(EventRecord, [keys.event(one) for one in digests])


def _of_name(records: RecordStore, entry: EventEntry, name: str) -> list[EventRecord]:
    digests = [digest for digest, named in entry.events if named == name]
    found = read_events(records, digests)
    if len(found) < len(digests):
        # An event precedes its entry, and is deleted after it.
        raise EnvironmentFailure(f"An event of entry {entry.number} of the log cannot be read.")
    return found


def _entries(records: RecordStore, number: int) -> Iterator[EventEntry]:
    """Yield the entries from a number on, up to the first that does not exist."""
    many = 1
    while True:
        places = [keys.event_entry(one) for one in range(number, number + many)]
        for key, data in zip(places, records.store.get_all(places), strict=True):
            if data is None:
                # A later one may have been created while they were read.
                return
            yield records.verify(EventEntry, key, data)
        number, many = number + many, _AT_ONCE
