"""Record the output of an execution in chunks, without delaying its records.

Output is collected in memory and written by a separate thread. If the store is slow or unavailable,
output is dropped and a line in the log states how much. Records are never delayed or dropped.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Container, Iterator
from contextlib import suppress

from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.telemetry.log_redaction import hidden
from kitaru.stores.base import Store
from kitaru.wire import keys, redaction
from kitaru.wire.ids import new_ascending_id
from kitaru.wire.records import LogChunk
from kitaru.wire.structs import Struct, replace
from kitaru.wire.times import now

_CHUNK = 64 * 1024
_MOST = 16 * _CHUNK
_LINE = 8 * 1024
_TORN = 4 * 1024
_PAUSE = 1.0
_LAST_WORDS = 5.0
_ENDED = ("completed", "failed", "cancelled")

_open: dict[int, Log] = {}
os.register_at_fork(after_in_child=_open.clear)


class LogLine(Struct):
    """A line of output with its time, its stream (`stdout`, `stderr`) and its invocation.

    `invocation` is empty for the flow's body. `text` does not contain the line break.
    """

    at: str
    invocation: str
    stream: str
    text: str

    @property
    def timestamp(self) -> str:
        """Alias of `at`."""
        return self.at

    @property
    def checkpoint_name(self) -> str:
        """Alias of `invocation`."""
        return self.invocation

    @property
    def message(self) -> str:
        """Alias of `text`."""
        return self.text


class Log:
    """The output of one run of an execution; safe for threads, and never raises.

    A line is recorded when it is complete, so that no secret is split between two records.
    """

    def __init__(self, store: Store, exec_id: str) -> None:
        self._record_store = RecordStore(store)
        self._place = keys.log_segment(exec_id, new_ascending_id())
        self._begun: dict[tuple[str, str], str] = {}
        self._lines: list[LogLine] = []
        self._size = self._lost = self._number = 0
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, invocation: str, stream: str, text: str) -> None:
        """Add text that was written."""
        with self._changed:
            begun = self._begun.get((invocation, stream), "") + text
            if "\n" not in text and len(begun) <= _LINE:
                self._begun[invocation, stream] = begun
                return
            *whole, rest = begun.split("\n")
            if len(rest) > _LINE:
                # Hide secrets before cutting the line, so that no secret is cut in two.
                cut = len(rest)
                if redaction.has_values():
                    rest = _hidden(rest)
                    cut = max(len(rest) - _TORN, 0)
                whole, rest = [*whole, rest[:cut]], rest[cut:]
            self._begun[invocation, stream] = rest
            self._take(invocation, stream, whole)
            self._start()

    def close(self, timeout: float = _LAST_WORDS) -> None:
        """Write the remaining output within `timeout` seconds. More output may follow.

        Never raises: an execution must be able to end if its last output cannot be written.
        """
        with suppress(Exception):
            self._take_begun()
            if self._lines or self._writing.locked():
                self._write_last(timeout)

    def _take_begun(self) -> None:
        with self._changed:
            _open.pop(id(self), None)
            for (invocation, stream), text in self._begun.items():
                self._take(invocation, stream, [text] if text else [])
            self._begun.clear()

    def _write_last(self, timeout: float) -> None:
        last = threading.Thread(
            target=self._write, args=(timeout,), name="kitaru-logs-last", daemon=True
        )
        try:
            last.start()
        except (RuntimeError, MemoryError):
            # No thread can be started. The store limits the duration of a write, too.
            self._write(timeout)
        else:
            last.join(timeout)

    def _take(self, invocation: str, stream: str, texts: list[str]) -> None:
        at = now()
        for text in texts:
            if self._size + len(text) > _MOST:
                self._lost += 1
                continue
            self._size += len(text) + 1
            self._lines.append(LogLine(at, invocation, stream, text))

    def _start(self) -> None:
        _open[id(self)] = self
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._run, name="kitaru-logs", daemon=True)
            thread.start()
            self._thread = thread
        elif self._size >= _CHUNK:
            self._changed.notify()

    def _run(self) -> None:
        """Write once a second, or as soon as a chunk is full; end when there is no new output."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._size >= _CHUNK, _PAUSE)
                if not self._lines:
                    self._thread = None
                    return
            self._write()

    def _write(self, timeout: float = -1) -> None:
        """Write the collected lines; give up if another thread writes for `timeout` seconds."""
        if not self._writing.acquire(timeout=timeout):
            return
        try:
            with self._changed:
                lines, lost = self._lines, self._lost
                self._lines, self._size, self._lost = [], 0, 0
            for chunk in _chunks(lines, lost):
                try:
                    self._keep(_without_secrets(chunk))
                except Exception:
                    with self._changed:
                        self._lost += len(chunk)
        finally:
            self._writing.release()

    def _keep(self, chunk: list[LogLine]) -> None:
        self._number += 1
        place = f"{self._place}{self._number:08d}"
        self._record_store.write(place, LogChunk(tuple(map(_entry, chunk))))


def _entry(line: LogLine) -> list[str]:
    return [line.at, line.invocation, line.stream, line.text]


def close_all() -> None:
    """Write the remaining output of every run in this process, which is about to end."""
    for log in list(_open.values()):
        log.close()


def read(
    store: Store, exec_id: str, seen: Container[str] = ()
) -> Iterator[tuple[str, list[LogLine]]]:
    """Yield the chunks that an execution's runs wrote, each with its key, except those seen."""
    found = [key for key in store.list(keys.logs(exec_id)) if key not in seen]
    for key, chunk in zip(found, RecordStore(store).read_all(LogChunk, found), strict=True):
        yield key, [LogLine(*line) for line in chunk.lines]


def read_chunk(store: Store, key: str) -> list[LogLine]:
    """Return the lines of a chunk; none if it was removed."""
    chunk = RecordStore(store).read(LogChunk, key)
    return [] if chunk is None else [LogLine(*line) for line in chunk.lines]


def lines(journal: Journal, invocation: str | None, follow: bool) -> Iterator[LogLine]:
    """Yield the lines of an execution or of one invocation; `follow` continues until the end."""
    found = _followed(journal) if follow else _sorted(journal)
    return (line for line in found if invocation in (None, line.invocation))


def _sorted(journal: Journal) -> list[LogLine]:
    found = [line for _, chunk in read(journal.store, journal.exec_id) for line in chunk]
    # Concurrent runs write separate chunks. Within one run, lines are in the order of writing.
    return sorted(found, key=lambda line: line.at)


def _followed(journal: Journal) -> Iterator[LogLine]:
    seen: set[str] = set()
    while True:
        # The status is read first, so that output before the end is not missed.
        last = journal.state().status in _ENDED
        for key, chunk in read(journal.store, journal.exec_id, seen):
            seen.add(key)
            yield from chunk
        if last:
            return
        time.sleep(_PAUSE)


def _chunks(lines: list[LogLine], lost: int) -> Iterator[list[LogLine]]:
    chunk: list[LogLine] = []
    size = 0
    for line in lines:
        chunk.append(line)
        size += len(line.text)
        if size >= _CHUNK:
            yield chunk
            chunk, size = [], 0
    if lost:
        said = f"kitaru: {lost} lines of output were lost here"
        chunk.append(LogLine(now(), "", "stderr", said))
    if chunk:
        yield chunk


def _without_secrets(lines: list[LogLine]) -> list[LogLine]:
    """Return the lines with secrets hidden, which is done for all lines of a writer at once.

    If a secret spanned several lines, fewer lines remain. All lines of that writer in this chunk
    then get the time of its first line.
    """
    by_writer: dict[tuple[str, str], list[LogLine]] = {}
    for line in lines:
        by_writer.setdefault((line.invocation, line.stream), []).append(line)
    kept: list[LogLine] = []
    for own in by_writer.values():
        texts = _hidden("\n".join(line.text for line in own)).split("\n")
        moments = [line.at for line in own] if len(texts) == len(own) else [own[0].at] * len(texts)
        kept += [replace(own[0], at=at, text=t) for at, t in zip(moments, texts, strict=True)]
    return sorted(kept, key=lambda line: line.at)


def _hidden(text: str) -> str:
    return str(hidden(text.encode("utf-8", "backslashreplace").decode()))
