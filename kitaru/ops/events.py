"""Events: receive them, give them one order, and let them answer waits.

An event is durable once its hint and its record are. A sequencer, which is any dispatcher or the
sender itself, appends entries of up to 500 events to a log. The entry's effects follow from the
entry alone, so each process that finds its hint may repeat them. See
`kitaru.runtime.journal.events`.

An event is in the log once; see `kitaru.ops.event_log`. A process that loses a number reads the
winner and drops what it contains.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from kitaru import hints
from kitaru.errors import KitaruError, NotFound, RecordCorrupt, UsageError
from kitaru.ops.event_log import append
from kitaru.ops.triggers import Delivery, cancel_by_events, start_by_event, triggers_of
from kitaru.runtime.engine.waits import not_json
from kitaru.runtime.journal import events as log
from kitaru.runtime.journal import rounds
from kitaru.runtime.journal.blobs import create_or_read
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.journal.states import read_end
from kitaru.runtime.journal.subscriptions import newest_entry
from kitaru.wire import canonical, keys
from kitaru.wire.actors import actor
from kitaru.wire.events import (
    check_event_id,
    check_event_name,
    check_sent_name,
    event_digest,
    match_digest,
    values_at,
)
from kitaru.wire.limits import MAX_EVENT_BYTES
from kitaru.wire.records import (
    EventEffect,
    EventEntry,
    EventRecord,
    ExecutionRecord,
    InvocationRecord,
)
from kitaru.wire.structs import fields_of
from kitaru.wire.times import now

if TYPE_CHECKING:
    from kitaru.stores.base import Store

_MOST = 500
_RESTORED = 10
_NEWEST = 1_000


@dataclass(frozen=True, slots=True)
class Event:
    """An event.

    Attributes:
        name: its name, such as `invoice.created`.
        id: its id, unique among the events of that name.
        data: its JSON.
        at: when it was received.
        by: who sent it.
        number: the entry of the log that contains it; 0 before a dispatcher has put it there.
        effects: the executions that it started, could not start, or cancelled; only `get_event`
            returns them.
    """

    name: str
    id: str
    data: Any
    at: str
    by: str
    number: int = 0
    effects: tuple[EventEffect, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON that the commands print for an event."""
        return {
            "name": self.name,
            "id": self.id,
            "data": self.data,
            "at": self.at,
            "by": self.by,
            "number": self.number,
            "effects": [fields_of(one) for one in self.effects],
        }

    @staticmethod
    def from_dict(document: Mapping[str, Any]) -> Event:
        """Return the event of a document of `to_dict`, such as that of a service."""
        effects = tuple(EventEffect(**one) for one in document["effects"])
        return Event(**{**document, "effects": effects})


def send_event(
    store: Store, name: str, data: Any, *, id: str | None = None, delivers: bool = True
) -> Event:
    """Send an event, and return it as it is stored.

    It is stored when this function returns. An event that was sent before under the same name and
    id is returned as it was sent first.

    Args:
        name: name of the event, such as `invoice.created`.
        data: JSON of at most 256 KiB.
        id: id of the event, such as that of a delivery. Default: a new one.
        delivers: whether to answer waits at once. Otherwise, and if that fails, a dispatcher does.

    Raises:
        UsageError: the name or the id is not valid, or the data is not JSON or too long.

    Example:
        send_event(store, "invoice.created", {"amount": 120}, id="inv-7")
    """
    id = check_event_id(secrets.token_hex(12) if id is None else id)
    records = RecordStore(store)
    held = store_event(
        records, EventRecord(check_sent_name(name), id, checked(data), now(), actor())
    )
    if delivers:
        # The event is stored. A dispatcher does the rest if this process cannot.
        with suppress(KitaruError):
            settle(store)
    return _shown(records, held)


def store_event(records: RecordStore, made: EventRecord) -> EventRecord:
    """Store an event, unless one with its name and id is stored; return the stored event."""
    store, digest = records.store, event_digest(made.name, made.id)
    held = records.read(EventRecord, keys.event(digest))
    if held is None:
        # Before the event: if this process dies after it, a dispatcher finds the hint.
        create_or_read(store, keys.due_event(digest), now().encode("ascii"))
        held = records.write(keys.event(digest), made)
    return held


def get_event(store: Store, name: str, id: str) -> Event:
    """Return an event, and what it did. Raises NotFound if it does not exist, or was removed."""
    records = RecordStore(store)
    digest = event_digest(check_event_name(name), check_event_id(id))
    held = records.read(EventRecord, keys.event(digest))
    if held is None:
        raise NotFound(
            f"There is no event {name} with the id {id!a} in {store.url}.",
            help="See: " + hints.command(store, "events", "list", "--name", name),
        )
    effects = records.read_all(EventEffect, store.list(keys.event_effects(digest)))
    return replace(_shown(records, held), effects=tuple(effects))


def list_events(store: Store, name: str | None = None, *, limit: int = 50) -> list[Event]:
    """Return the newest events, newest first.

    Args:
        name: only events of this name.
        limit: at most this many, 1 to 1,000.

    Raises:
        UsageError: the name or the limit is not valid.
    """
    if not 0 < limit <= _NEWEST:
        raise UsageError(f"The limit {limit} is not 1 to {_NEWEST:,}.")
    if name is not None:
        check_event_name(name)
    records, found = RecordStore(store), list[Event]()
    waiting = _digests(store.list(keys.due_events()))
    for event in reversed(_sorted(log.read_events(records, waiting))):
        if name in (None, event.name) and _number(records, event) == 0:
            found.append(_event(event, 0))
    for entry in _backwards(records):
        if len(found) >= limit:
            break
        digests = [digest for digest, named in entry.events if name in (None, named)]
        events = log.read_events(records, digests)
        found += [_event(one, entry.number) for one in reversed(events)]
    return found[:limit]


def settle(store: Store, due: Sequence[str] | None = None) -> list[Delivery]:
    """Put new events into the log, and answer the waits that they fit; return what was done.

    Args:
        due: the hints of events that were listed; default: those that a list finds now.

    Raises EnvironmentFailure if the store fails. The hints of what is not done are then kept.
    """
    listed = store.list(keys.due_events()) if due is None else due
    records = RecordStore(store)
    numbers = {keys.due_number(hint) for hint in listed if _cause(hint).startswith("e-")}
    numbers.update(_sequence(records, _digests(listed)))
    done, failures = list[Delivery](), list[KitaruError]()
    for number in sorted(numbers):
        entry = records.read(EventEntry, keys.event_entry(number))
        # Without an entry: its writer is about to create it, or another process will.
        if entry is not None:
            failed = len(failures)
            done += _deliver(records, entry, failures)
            if len(failures) == failed:
                rounds.drop(store, keys.due_entry(number))
    if failures:
        raise failures[0]
    return done


class Matching:
    """Compares all waits with the log again, and remembers how far each was compared.

    It finds waits that a sequencer did not see in an old list, and those of killed processes.
    """

    def __init__(self) -> None:
        self._compared: dict[str, int] = {}

    def match_all(self, store: Store) -> list[Delivery]:
        """Answer the waits whose event is in the log; return what was done."""
        records, done = RecordStore(store), list[Delivery]()
        head = newest_entry(records)
        compared: dict[str, int] = {}
        for key in store.list(keys.SUBSCRIBED):
            start = self._compared.get(key, 0)
            if head is not None and start > head.number:
                compared[key] = start
                continue
            answer, compared[key] = _compare(records, key, start)
            if answer is not None:
                done.append(answer)
        self._compared = compared
        return done


def restore_hints(store: Store) -> list[tuple[str, bytes]]:
    """Return hints for the events of a restored store, which has none."""
    records, at = RecordStore(store), now().encode("ascii")
    newest = islice(_backwards(records), _RESTORED)
    found = [keys.due_entry(one.number) for one in newest]
    prefix = keys.event("")
    for key in store.list(prefix):
        digest = key.removeprefix(prefix)
        if store.get(keys.event_place(digest)) is None:
            found.append(keys.due_event(digest))
    return [(hint, at) for hint in found]


def _sequence(records: RecordStore, digests: list[str]) -> list[int]:
    """Put events into the log unless they are in it; return the numbers of the new entries."""
    store, made = records.store, list[int]()
    # Without an event: its sender is about to write it.
    known = {event_digest(one.name, one.id): one for one in log.read_events(records, digests)}
    # The head is read first: all numbers up to the entry before it are recorded by then.
    head = newest_entry(records) if known else None
    left = dict(known)
    while left:
        held = {digest for digest, _ in head.events} if head is not None else set()
        places = store.get_all([keys.event_place(digest) for digest in left])
        placed = {digest for digest, at in zip(left, places, strict=True) if at is not None}
        left = {d: one for d, one in left.items() if d not in held and d not in placed}
        if not left:
            break
        some = _sorted(left.values())[:_MOST]
        number = append(records, head, [(event_digest(one.name, one.id), one.name) for one in some])
        made += [number] if number else []
        head = newest_entry(records, number)
    rounds.drop(store, *map(keys.due_event, known))
    return made


def _deliver(
    records: RecordStore, entry: EventEntry, failures: list[KitaruError]
) -> list[Delivery]:
    """Let the events of an entry have their effects, once, however often this is called.

    A wait that cannot be compared, such as one without the library for its expression, is added to
    `failures`, and stops no other one. Neither does a flow that cannot be started now.
    """
    store, done = records.store, list[Delivery]()
    shapes: dict[str, list[list[str]]] = {}
    triggers = triggers_of(records, entry)
    for event in log.read_events(records, [digest for digest, _ in entry.events]):
        for flow, trigger in triggers.items():
            try:
                done += start_by_event(records, event, flow, trigger)
            except KitaruError as error:
                failures.append(error)
        if event.name not in shapes:
            shapes[event.name] = list(_shapes(store, event.name))
        for paths in shapes[event.name]:
            values = values_at(paths, event.data)
            if values is None:
                continue
            for key in store.list(keys.subscribers(event.name, match_digest(values))):
                try:
                    answer, _ = _compare(records, key, 0, event)
                    done += [answer] if answer is not None else []
                except KitaruError as error:
                    failures.append(error)
    return done


def _shapes(store: Store, name: str) -> Iterator[list[str]]:
    """Yield the sets of paths by which executions wait for events of a name."""
    listed = store.list(keys.event_shapes(name))
    for key, data in zip(listed, store.get_all(listed), strict=True):
        try:
            paths = None if data is None else json.loads(data)
        except ValueError:
            raise RecordCorrupt(f"The stored object {key} is damaged: it is not JSON.") from None
        if paths is not None:
            yield paths


def _compare(
    records: RecordStore, key: str, start: int, event: EventRecord | None = None
) -> tuple[Delivery | None, int]:
    """Answer the wait of a subscription if its event came; delete a subscription that is over.

    A subscription may also be that of an execution which events cancel.

    Args:
        start: entries before this number are known not to contain it.
        event: nothing is answered unless the wait asks for an event such as this one.

    Returns what was done, and the number of the next entry to look at.
    """
    store = records.store
    *_, exec_id, wait = key.split("/")
    if (which := keys.cancelled_by(wait)) is not None:
        return cancel_by_events(records, key, which, start, event)
    execution = records.read(ExecutionRecord, keys.execution(exec_id))
    if execution is None:
        rounds.drop(store, key)
        return None, start
    request = Journal(store, execution).wait_request(wait)
    if request is None or not request.event:
        # Its process is about to write it, and reads the log then.
        return None, start
    if event is not None and not log.fits(request, event):
        return None, start
    if _is_over(records, exec_id, wait):
        rounds.drop(store, key)
        return None, start
    answer, number = log.look(records, execution, request, start)
    if answer is None:
        return None, number
    rounds.drop(store, key)
    is_new = answer.kind == "event"
    name, id = request.event["name"], answer.by.removeprefix("event ")
    return (Delivery(name, id, exec_id, wait) if is_new else None), number


def _is_over(records: RecordStore, exec_id: str, wait: str) -> bool:
    """Return whether nothing can answer a wait any more."""
    if rounds.effective_answer(records, exec_id, wait) is not None:
        return True
    if records.read(InvocationRecord, keys.invocation(exec_id, wait)) is not None:
        # The flow has cancelled it.
        return True
    is_removed = records.store.get(keys.garbage(exec_id)) is not None
    return is_removed or read_end(records, exec_id) is not None


def _backwards(records: RecordStore) -> Iterator[EventEntry]:
    """Yield the entries of the log, newest first."""
    entry = newest_entry(records)
    while entry is not None:
        yield entry
        entry = records.read(EventEntry, keys.event_entry(entry.number - 1))


def _number(records: RecordStore, event: EventRecord) -> int:
    """Return the number of the entry that contains an event; 0 if none does."""
    digest = event_digest(event.name, event.id)
    # As in `_sequence`: the head before the number.
    head = newest_entry(records)
    place = records.store.get(keys.event_place(digest))
    if place is not None:
        return int(place)
    is_newest = head is not None and any(digest == one for one, _ in head.events)
    return head.number if head is not None and is_newest else 0


def _shown(records: RecordStore, event: EventRecord) -> Event:
    return _event(event, _number(records, event))


def _event(event: EventRecord, number: int) -> Event:
    return Event(event.name, event.id, event.data, event.at, event.by, number)


def _sorted(events: Iterable[EventRecord]) -> list[EventRecord]:
    return sorted(events, key=lambda one: (one.at, one.name, one.id))


def _digests(listed: Sequence[str]) -> list[str]:
    causes = map(_cause, listed)
    return [cause.removeprefix("n-") for cause in causes if cause.startswith("n-")]


def _cause(hint: str) -> str:
    return keys.due_parts(hint)[2]


def checked(data: Any) -> Any:
    """Return the data of an event, which is JSON of a limited length.

    Raises UsageError otherwise.
    """
    if reason := not_json(data, "data"):
        raise UsageError(
            f"The event cannot be sent: {reason}.",
            help="Use texts, finite numbers, true, false, null, lists and objects of those.",
        )
    if (size := len(canonical.dumps(data))) > MAX_EVENT_BYTES:
        raise UsageError(
            f"The event cannot be sent: its data has {size:,} bytes, more than "
            f"{MAX_EVENT_BYTES:,}.",
            help="Store the data elsewhere, and send its address.",
        )
    return data
