"""Record the output of an execution in chunks, without delaying its records.

Output is collected in memory and written by a separate thread. If the store is slow or unavailable,
output is dropped and a line in the log states how much. Records are never delayed or dropped.

A log also contains what people watch while an execution runs, as lines of further streams:

    event       an event of `kitaru.emit`, as JSON
    progress    the last `kitaru.progress` of an invocation since the line before, as JSON
    model       a piece of the text that a model streams, which may contain line breaks

None of it is a record: no execution reads it.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Container, Iterator
from contextlib import suppress
from typing import Any

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
_NEWEST = 60
_ENDED = ("completed", "failed", "cancelled")
EVENT, PROGRESS, MODEL = "event", "progress", "model"
# Secrets in these are hidden before the lines of a writer are joined.
_LIVE = (EVENT, PROGRESS, MODEL)

_open: dict[int, Log] = {}
os.register_at_fork(after_in_child=_open.clear)


class LogLine(Struct):
    """A line of output with its time, its stream and its invocation.

    `stream` is `stdout`, `stderr`, `event`, `progress` or `model`. `invocation` is empty for the
    flow's body. `text` does not contain the line break.
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


class LiveText:
    """The text that a model streams to the people who watch; safe for threads, and never raises.

    Pieces are passed on as whole words, and without the beginning of a known secret. What was
    passed on is searched together with what follows it, because a secret may span two pieces.
    """

    def __init__(self, log: Log, invocation: str) -> None:
        self._log = log
        self.invocation = invocation
        self._raw = ""
        # The number of raw characters, and the text, that were passed on.
        self._passed = 0
        self._shown = ""
        self._is_closed = False

    def add(self, piece: str) -> None:
        """Add a piece of the text."""
        self._log.take_piece(self, piece)

    def close(self) -> None:
        """Pass on the rest: the model has answered, or the attempt has ended."""
        self._is_closed = True

    def extend(self, piece: str) -> bool:
        """Add a piece, and return False if too much has not been passed on."""
        has_room = len(self._raw) - self._passed + len(piece) <= _MOST
        if has_room:
            self._raw += piece
        return has_room

    @property
    def is_over(self) -> bool:
        """Whether the text has ended and is passed on."""
        return self._is_closed and self._passed == len(self._raw)

    def next(self, *, is_last: bool) -> str:
        """Return the text that can be passed on now."""
        end = len(self._raw)
        if not (is_last or self._is_closed):
            end -= redaction.begun_at_end(self._raw[-_TORN:])
            while end > self._passed and not _is_boundary(self._raw[end - 1]):
                end -= 1
        if end <= self._passed:
            return ""
        shown = _hidden(self._raw[:end])
        # A secret that ends now may change what was passed on. Only what follows it is passed on.
        pairs = enumerate(zip(shown, self._shown, strict=False))
        same = next((at for at, (a, b) in pairs if a != b), min(len(shown), len(self._shown)))
        self._raw, tail = self._raw[max(0, end - _TORN) :], min(end, _TORN)
        self._passed, self._shown = tail, _hidden(self._raw[:tail])
        return shown[same:]


def _is_boundary(character: str) -> bool:
    """Return whether a word ends there. Languages without spaces are passed on by character."""
    return character.isspace() or not character.isascii()


class Log:
    """The output of one run of an execution; safe for threads, and never raises.

    A line is recorded when it is complete, so that no secret is split between two records.
    """

    def __init__(self, store: Store, exec_id: str) -> None:
        self._record_store = RecordStore(store)
        self._place = keys.log_segment(exec_id, new_ascending_id())
        self._begun: dict[tuple[str, str], str] = {}
        self._lines: list[LogLine] = []
        self._progress: dict[str, LogLine] = {}
        self._texts: list[LiveText] = []
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

    def event(self, invocation: str, event: Any) -> None:
        """Add an event, which is JSON."""
        with self._changed:
            self._take(invocation, EVENT, [json.dumps(event)])
            self._start()

    def progress(self, invocation: str, document: dict[str, Any]) -> None:
        """Note the progress of an invocation. Only its last progress in a second is written."""
        with self._changed:
            line = LogLine(now(), invocation, PROGRESS, json.dumps(document))
            self._progress[invocation] = line
            self._start()

    def text(self, invocation: str) -> LiveText:
        """Return the text that a model streams in an invocation."""
        return LiveText(self, invocation)

    def take_piece(self, text: LiveText, piece: str) -> None:
        """Add a piece of a text."""
        with self._changed:
            if not text.extend(piece):
                self._lost += 1
            if text not in self._texts:
                self._texts.append(text)
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
            self._take_live(is_last=True)

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

    def _take_live(self, *, is_last: bool = False) -> None:
        """Add the last progress of each invocation, and what can be passed on of each text."""
        self._lines += self._progress.values()
        self._progress.clear()
        for text in self._texts:
            if piece := text.next(is_last=is_last):
                self._take(text.invocation, MODEL, [piece])
        self._texts = [text for text in self._texts if not (is_last or text.is_over)]

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
                self._take_live()
                if not self._lines and not self._texts:
                    self._thread = None
                    return
            self._write()

    def _write(self, timeout: float = -1) -> None:
        """Write the collected lines; give up if another thread writes for `timeout` seconds."""
        if not self._writing.acquire(timeout=timeout):
            return
        try:
            with self._changed:
                self._take_live()
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


def streamed(journal: Journal, invocations: Container[str]) -> dict[str, str]:
    """Return the end of what models have streamed in these invocations, by invocation."""
    # The newest chunks contain it: a text that ended is in the record.
    newest = journal.store.list(keys.logs(journal.exec_id))[-_NEWEST:]
    texts: dict[str, str] = {}
    for chunk in RecordStore(journal.store).read_all(LogChunk, newest):
        for line in (LogLine(*line) for line in chunk.lines):
            if line.stream == MODEL and line.invocation in invocations:
                texts[line.invocation] = (texts.get(line.invocation, "") + line.text)[-_TORN:]
    return texts


def _sorted(journal: Journal) -> list[LogLine]:
    chunks = (chunk for _, chunk in read(journal.store, journal.exec_id))
    # The record of a model call contains the text that was streamed.
    found = [line for chunk in chunks for line in chunk if line.stream != MODEL]
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
    kept = [_live_without_secrets(line) for line in lines if line.stream in _LIVE]
    for line in lines:
        if line.stream in _LIVE:
            continue
        by_writer.setdefault((line.invocation, line.stream), []).append(line)
    for own in by_writer.values():
        texts = _hidden("\n".join(line.text for line in own)).split("\n")
        moments = [line.at for line in own] if len(texts) == len(own) else [own[0].at] * len(texts)
        kept += [replace(own[0], at=at, text=t) for at, t in zip(moments, texts, strict=True)]
    return sorted(kept, key=lambda line: line.at)


def _live_without_secrets(line: LogLine) -> LogLine:
    if line.stream == MODEL:
        # They were hidden before the text was cut into pieces.
        return line
    return replace(line, text=json.dumps(hidden(json.loads(line.text))))


def _hidden(text: str) -> str:
    return str(hidden(text.encode("utf-8", "backslashreplace").decode()))
