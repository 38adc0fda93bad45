"""Beats: what an execution does now, and that its process is alive, for people who watch.

A record is written when a checkpoint ends. For the time before, one thread of the process writes a
beat when an attempt has run for a second, at most once a second while `kitaru.progress` reports
progress, and every 30 seconds while the execution runs. A beat lists the attempts that are under
way and their progress. Nothing is written in the path of a checkpoint, and nothing
depends on a beat: it only tells a running execution from a silent one.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress

from kitaru.runtime.journal.record_store import RecordStore
from kitaru.stores.base import Store
from kitaru.wire import keys
from kitaru.wire.ids import new_ascending_id
from kitaru.wire.records import AttemptRecord, Beat, InvocationRecord
from kitaru.wire.structs import Struct
from kitaru.wire.times import later, now, seconds_since

_PAUSE = 1.0
_BEAT = 30.0
# The number of invocations whose progress is shown.
_MOST = 100
# Without a beat for this long, an execution is shown as silent.
SILENT_SECONDS = 4 * _BEAT

_live: dict[int, Beats] = {}
_thread: threading.Thread | None = None
_lock = threading.Lock()


def _forget() -> None:
    """Forget the executions of the parent in a forked child, which does not run them."""
    global _thread, _lock
    _lock = threading.Lock()
    _live.clear()
    _thread = None


os.register_at_fork(after_in_child=_forget)


class UnderWay(Struct):
    """An attempt that was under way at the last beat of its process.

    `site` is the call site, such as `flow.py:12`. `began_at` is its start, `seen_at` the beat.
    """

    id: str
    attempt: int
    site: str
    began_at: str
    seen_at: str


class Progress(Struct):
    """What an invocation last reported with `kitaru.progress`; the flow's body has an empty id.

    `total` is None if it is not known.
    """

    id: str
    done: float
    total: float | None
    note: str
    at: str


class Signs(Struct):
    """The last sign of life of a running execution, and what it does.

    `silent_since` is the last sign if it is more than two minutes old, else empty.
    """

    last: str
    silent_since: str
    under_way: tuple[UnderWay, ...]
    progress: tuple[Progress, ...] = ()


class Beats:
    """The beats of one run of an execution; safe for threads, and never raises."""

    def __init__(self, store: Store, exec_id: str) -> None:
        self._record_store = RecordStore(store)
        self._exec_id = exec_id
        self._segment = ""
        self._number = 0
        self._is_live = False
        self._written_at = 0.0
        self._reported: set[tuple[str, int]] = set()
        self._has_news = False
        self.progress: dict[str, Progress] = {}
        """The last progress of each running attempt and of the body."""
        self.under_way: dict[str, tuple[float, int, str]] = {}
        """Start on the monotonic clock, number and call site of each running attempt."""

    def began(self, id: str, attempt: int, site: str) -> None:
        """Note that an attempt of an invocation begins."""
        self.under_way[id] = time.monotonic(), attempt, site
        if not self._is_live:
            self._start()

    def ended(self, id: str) -> None:
        """Note that the running attempt of an invocation has ended."""
        self.under_way.pop(id, None)
        self.progress.pop(id, None)

    def report(self, progress: Progress) -> None:
        """Note the progress of a running attempt or of the body."""
        if len(self.progress) < _MOST or progress.id in self.progress:
            self.progress[progress.id] = progress
            self._has_news = True
        if not self._is_live:
            self._start()

    def pause(self) -> None:
        """Stop: the execution waits or has ended. The next attempt continues."""
        with _lock:
            self._is_live = False
            _live.pop(id(self), None)
        if self._has_news:
            # What it reported last is shown while it waits.
            with suppress(Exception):
                self._write(time.monotonic())

    def _start(self) -> None:
        global _thread
        with _lock:
            if _thread is None or not _thread.is_alive():
                thread = threading.Thread(target=_run, name="kitaru-beats", daemon=True)
                try:
                    thread.start()
                except (RuntimeError, MemoryError):
                    # The next attempt tries again.
                    return
                _thread = thread
            self._is_live = True
            self._written_at = time.monotonic()
            _live[id(self)] = self

    def tick(self) -> None:
        """Write a beat if one is due."""
        moment = time.monotonic()
        long = {
            (id, attempt)
            for id, (began, attempt, _) in list(self.under_way.items())
            if moment - began >= _PAUSE
        }
        is_new = self._has_news or not long <= self._reported
        if not is_new and moment - self._written_at < _BEAT:
            return
        self._reported, self._written_at = long, moment
        self._write(moment)

    def _write(self, moment: float) -> None:
        at = now()
        self._has_news = False
        progress = tuple(
            [one.at, one.id, one.done, one.total, one.note] for one in [*self.progress.values()]
        )
        under_way = tuple(
            [later(at, began - moment), id, str(attempt), site]
            for id, (began, attempt, site) in list(self.under_way.items())
        )
        # The id takes the time of the first beat: most runs end before it.
        self._segment = self._segment or new_ascending_id()
        before, self._number = self._number, self._number + 1
        key = keys.beat(self._exec_id, self._segment, self._number)
        self._record_store.write(key, Beat(at, under_way, progress))
        if before:
            self._record_store.store.delete(keys.beat(self._exec_id, self._segment, before))


def _run() -> None:
    global _thread
    while True:
        time.sleep(_PAUSE)
        for beats in list(_live.values()):
            # One thread serves all executions of the process: no store may end it.
            with suppress(BaseException):
                beats.tick()
        with _lock:
            if not _live:
                _thread = None
                return


def read(store: Store, exec_id: str, state_at: str) -> Signs:
    """Return the signs of life of an execution that has been running since `state_at`.

    An attempt whose outcome or failure is recorded is left out.
    """
    prefix = keys.beats(exec_id)
    newest = {key.rpartition("/")[0]: key for key in store.list(prefix)}
    record_store = RecordStore(store)
    # A process that stopped before the execution was resumed wrote the earlier beats.
    found = [one for one in record_store.read_all(Beat, [*newest.values()]) if one.at >= state_at]
    listed = [
        UnderWay(id, int(attempt), site, began_at, one.at)
        for one in found
        for began_at, id, attempt, site in one.under_way
    ]
    last = max([state_at, *(one.at for one in found)])
    return Signs(
        last=last,
        silent_since=last if seconds_since(last) > SILENT_SECONDS else "",
        under_way=tuple(sorted(_unfinished(record_store, exec_id, listed), key=_began_at)),
        progress=_progress(found),
    )


def last_progress(store: Store, exec_id: str) -> tuple[Progress, ...]:
    """Return what an execution that waits or has failed reported last."""
    listed = store.list(keys.beats(exec_id))
    newest = {key.rpartition("/")[0]: key for key in listed}
    last = RecordStore(store).read_all(Beat, [*newest.values()])[-1:]
    return _progress(last)


def _progress(found: list[Beat]) -> tuple[Progress, ...]:
    """Return the newest progress of each invocation in the beats of several processes."""
    newest: dict[str, Progress] = {}
    for beat in found:
        for at, id, done, total, note in beat.progress:
            if id not in newest or newest[id].at < at:
                newest[id] = Progress(id, done, total, note, at)
    return tuple(sorted(newest.values(), key=lambda one: one.id))


def _unfinished(record_store: RecordStore, exec_id: str, listed: list[UnderWay]) -> list[UnderWay]:
    outcomes = [keys.invocation(exec_id, one.id) for one in listed]
    failures = [keys.attempt(exec_id, one.id, one.attempt) for one in listed]
    recorded = {record.id for record in record_store.read_all(InvocationRecord, outcomes)}
    failed = {(one.id, one.number) for one in record_store.read_all(AttemptRecord, failures)}
    return [one for one in listed if one.id not in recorded and (one.id, one.attempt) not in failed]


def _began_at(one: UnderWay) -> str:
    return one.began_at
