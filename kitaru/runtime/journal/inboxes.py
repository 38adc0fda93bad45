"""The signals of an execution: messages that people and agents send it while it runs.

Signals of an inbox are numbered from 1 without a gap, because each is created under the first free
number. A call of `kitaru.inbox` records the numbers that it returns. So a signal is unread as long
as no record contains its number, and nothing else has to be stored.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

from kitaru.runtime import codec
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.stores.base import Store
from kitaru.wire import canonical, keys
from kitaru.wire.ids import is_numbered
from kitaru.wire.records import InvocationRecord, SignalRecord
from kitaru.wire.structs import Struct, replace

# What one call returns at most. The next call returns the next signals.
_MOST = 1_000
_MOST_BYTES = 4 * 1024 * 1024
_MOST_AT_ONCE = 64


class Signal(Struct):
    """A signal of an execution; `read_by` is the call that returned it, empty if none has yet."""

    inbox: str
    number: int
    value: Any
    sent_at: str
    by: str
    read_by: str


def call_name(inbox: str) -> str:
    """Return the name of the calls that read an inbox."""
    return f"inbox_{inbox}"


def create(store: Store, exec_id: str, signal: SignalRecord) -> SignalRecord:
    """Create a signal under the first free number of its inbox, and return it with the number."""
    record_store = RecordStore(store)
    listed = store.list(f"{keys.inboxes(exec_id)}{signal.inbox}/")
    # The list may be old: a number that it lacks is found taken, and the next one is tried.
    number = len(listed)
    while True:
        number += 1
        numbered = replace(signal, number=number)
        if record_store.try_create(keys.signal(exec_id, signal.inbox, number), numbered):
            return numbered


def signals(journal: Journal) -> list[Signal]:
    """Return all signals of an execution in the order in which they were sent."""
    found = journal.store.list(keys.inboxes(journal.exec_id))
    sent = RecordStore(journal.store).read_all(SignalRecord, found)
    read = {
        (one.inbox, number): id
        for one in _Reads.of_all(journal, {one.inbox for one in sent})
        for number, id in one.by.items()
    }
    shown = [
        Signal(one.inbox, one.number, one.value, one.sent_at, one.by,
               read.get((one.inbox, one.number), ""))
        for one in sent
    ]  # fmt: skip
    return sorted(shown, key=lambda one: (one.sent_at, one.inbox, one.number))


class _Reads(Struct):
    """The numbers of an inbox that recorded calls have returned, each with the id of the call."""

    inbox: str
    by: dict[int, str]

    @staticmethod
    def of_all(journal: Journal, inboxes: Iterable[str]) -> Iterator[_Reads]:
        """Yield the reads of these inboxes. Lists the records of the execution once."""
        names = list(inboxes)
        recorded = journal.recorded() if names else set()
        for inbox in names:
            ids = (id for id in recorded if _reads(id, inbox))
            yield _Reads(inbox, _returned(journal, journal.outcomes(ids)))


def _reads(id: str, inbox: str) -> bool:
    """Return whether the call with that id reads an inbox, wherever in the flow it is made."""
    return is_numbered(id.rpartition(".")[2], call_name(inbox))


def _returned(journal: Journal, records: Iterable[InvocationRecord]) -> dict[int, str]:
    found: dict[int, str] = {}
    for record in records:
        if record.kind == "inbox" and record.value is not None:
            value = codec.decode(journal.fetch(record.value))
            found |= dict.fromkeys(numbers_in(journal.exec_id, value), record.id)
    return found


def numbers_in(exec_id: str, value: dict[str, Any]) -> list[int]:
    """Return the numbers in the recorded value of a call.

    A replay may have reused a call of its source. That call read the inbox of the source.
    """
    return list(value["numbers"]) if value["execution"] == exec_id else []


class Reading:
    """One call that reads an inbox: the numbers that it took and has not recorded yet."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.is_over = False


class InboxReader:
    """The unread signals of an inbox, for the calls of one process; safe for threads.

    Calls that run at once, in the tasks of an async flow, never return the same signal. If the
    process ends before such a call is recorded, its signals are unread again.
    """

    def __init__(self, journal: Journal, inbox: str) -> None:
        self._journal = journal
        self._inbox = inbox
        self._lock = threading.Lock()
        self._read: set[int] = set()
        self._is_loaded = False

    def take(self, reading: Reading, ids: Iterable[str]) -> tuple[list[int], list[Any]]:
        """Return the numbers and values of the unread signals, which `reading` then has.

        `ids` are the calls that the flow has made. Their records are read by exact key. A list of
        records, which may be old, only finds calls of other tasks.
        """
        with self._lock:
            if not self._is_loaded:
                known = {*ids, *(id for id in self._journal.recorded() if _reads(id, self._inbox))}
                self._read |= _returned(self._journal, self._journal.outcomes(known)).keys()
                self._is_loaded = True
            numbers: list[int] = []
            values: list[Any] = []
            size = 0
            for signal in self._unread():
                numbers.append(signal.number)
                values.append(signal.value)
                size += len(canonical.dumps(signal.value))
                if len(numbers) == _MOST or size >= _MOST_BYTES:
                    break
            if not reading.is_over:
                reading.numbers = numbers
                self._read.update(numbers)
        return numbers, values

    def settle(self, reading: Reading, recorded: dict[str, Any] | None) -> None:
        """Note what a call recorded, None if it was cancelled.

        Another process may have recorded other signals than this call took.
        """
        with self._lock:
            reading.is_over = True
            self._read.difference_update(reading.numbers)
            if recorded is not None:
                self._read.update(numbers_in(self._journal.exec_id, recorded))

    def _unread(self) -> Iterator[SignalRecord]:
        record_store = RecordStore(self._journal.store)
        number, width = 1, 1
        while True:
            numbers: list[int] = []
            while len(numbers) < width:
                if number not in self._read:
                    numbers.append(number)
                number += 1
            places = [keys.signal(self._journal.exec_id, self._inbox, one) for one in numbers]
            found = record_store.read_all(SignalRecord, places)
            yield from found
            if len(found) < len(numbers):
                return
            width = min(2 * width, _MOST_AT_ONCE)
