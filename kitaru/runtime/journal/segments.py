"""Copies of many records in one object, for fast reads from a remote store.

A segment contains copies of records that are already in the store. Each copy is verified like its
original. A record that is missing or damaged in the segments is read by its exact key.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from kitaru.errors import EnvironmentFailure, RecordCorrupt, RecordTooNew
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.wire import keys
from kitaru.wire.limits import INLINE_VALUE_BYTES
from kitaru.wire.records import InvocationRecord

_RECORDS = 256
_BYTES = 1024 * 1024
# Fewer records are read one by one just as fast. The next process adds them to its segment.
_FEW = 16
_AT_ONCE = 8
# Number of records outside of segments that are read at once.
_LOOSE = 2_048


class SegmentWriter:
    """Collects the records that this process has read or written, and writes them as segments.

    For a local store it does nothing, because reads take microseconds.
    """

    def __init__(self, record_store: RecordStore, exec_id: str) -> None:
        self._record_store = record_store
        self._exec_id = exec_id
        self._kept: list[tuple[InvocationRecord, bytes]] = []
        self._size = 0
        self._lock = threading.Lock()

    def add(self, record: InvocationRecord, data: bytes) -> None:
        """Add a stored record, with the exact bytes in the store."""
        if self._record_store.store.remote and len(data) <= INLINE_VALUE_BYTES:
            with self._lock:
                self._kept.append((record, data))
                self._size += len(data)

    def due(self, *, pausing: bool = False) -> list[Callable[[], None]]:
        """Return the work to do alongside the next write: write a segment, or nothing.

        `pausing` means that this process may not write another record.
        """
        with self._lock:
            count = len(self._kept)
            full = count >= _RECORDS or self._size >= _BYTES
            if not (full or (pausing and count >= _FEW)):
                return []
            kept, self._kept, self._size = self._kept, [], 0
        return [lambda: self._write(kept)]

    def _write(self, kept: list[tuple[InvocationRecord, bytes]]) -> None:
        first = min(record.position for record, _ in kept)
        data = b"".join(record.id.encode("ascii") + b"\n" + data for record, data in kept)
        key = keys.segment(self._exec_id, first, self._record_store.writer)
        try:
            self._record_store.store.create(key, data)
        except EnvironmentFailure:
            # The records themselves are durable. Without the segment they are read one by one.
            return


class SegmentReader:
    """The listed records of an execution, read before they are requested.

    Segments are read in program order, several at a time. Each record is returned once, so that few
    records are in memory at any time.
    """

    def __init__(
        self, record_store: RecordStore, exec_id: str, segment_writer: SegmentWriter | None = None
    ) -> None:
        """`segment_writer` receives the records that are not in a segment yet."""
        self._record_store = record_store
        self._exec_id = exec_id
        self._segment_writer = segment_writer
        self._segments: list[str] = []
        self._pending: set[str] = set()
        self._read: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def begin(self, *beside: Callable[[], object]) -> None:
        """List the records, and run `beside` at the same time."""
        store, prefix = self._record_store.store, keys.invocations(self._exec_id)
        found: list[str] = []
        self._segments = store.concurrently(
            lambda: store.list(keys.segments(self._exec_id)),
            lambda: found.extend(store.list(prefix)),
            *beside,
        )
        self._pending = {key.removeprefix(prefix) for key in found}

    def take(self, id: str) -> InvocationRecord | None:
        """Return a verified record. None is not evidence of absence: read the exact key."""
        with self._lock:
            while id in self._pending:
                self._read_more()
            data = self._read.pop(id, None)
        return None if data is None else self._verified(id, data)

    def each(self) -> Iterator[tuple[str, bytes]]:
        """Yield the key and the bytes of each listed record, unverified, in any order."""
        while self._pending:
            with self._lock:
                self._read_more()
                read, self._read = self._read, {}
            for id, data in read.items():
                yield keys.invocation(self._exec_id, id), data

    def _read_more(self) -> None:
        """Read the next segments, or some of the loose records once all segments are read."""
        some, self._segments = self._segments[:_AT_ONCE], self._segments[_AT_ONCE:]
        for data in self._record_store.store.get_all(some):
            found = {id: each for id, each in _parts(data or b"") if id in self._pending}
            self._pending -= found.keys()
            self._read |= found
        if not some:
            self._read_loose()

    def _read_loose(self) -> None:
        loose = sorted(self._pending)[:_LOOSE]
        self._pending.difference_update(loose)
        places = [keys.invocation(self._exec_id, id) for id in loose]
        for id, data in zip(loose, self._record_store.store.get_all(places), strict=True):
            if data is not None:
                self._read[id] = data
                if self._segment_writer and (record := self._verified(id, data)):
                    self._segment_writer.add(record, data)

    def _verified(self, id: str, data: bytes) -> InvocationRecord | None:
        try:
            place = keys.invocation(self._exec_id, id)
            return self._record_store.verify(InvocationRecord, place, data)
        except (RecordCorrupt, RecordTooNew):
            return None


def _parts(segment: bytes) -> list[tuple[str, bytes]]:
    """Return the records in a segment by id: each record's line and checksum.

    Other content is harmless, because no record is used unverified.
    """
    lines = segment.split(b"\n")
    each = zip(lines[::3], lines[1::3], lines[2::3], strict=False)
    return [(id.decode("ascii", "replace"), b"%b\n%b\n" % (line, end)) for id, line, end in each]
