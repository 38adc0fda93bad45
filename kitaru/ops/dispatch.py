"""The dispatcher: it finds what is due in a store, and advances those executions.

A dispatcher has no state that matters. It lists the hints below `due/`, reads the record that each
one announces, and calls `kitaru.ops.advance`. Any number may run, and all may be killed. Now and
then it looks at the hints below `open/`: rounds whose run may have ended without a word.

Notifications are sent on a thread of their own, so that a slow receiver delays no execution.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from kitaru.errors import KitaruError
from kitaru.ops.advance import Advanced, Means, close_lost, current_round, move
from kitaru.ops.events import Matching, settle
from kitaru.ops.execution_events import ExecutionEvents
from kitaru.ops.notifications import Sent, notify_of
from kitaru.ops.schedules import fire
from kitaru.ops.submit import run_has_ended
from kitaru.ops.triggers import Delivery
from kitaru.runtime.journal import places, processes, rounds
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.journal.states import read_end
from kitaru.wire import keys
from kitaru.wire.records import ExecutionRecord, ScheduleEntry
from kitaru.wire.times import digits, now, seconds_since

if TYPE_CHECKING:
    from kitaru_targets.local.process import Process

    from kitaru.stores.base import Store

# Hints that are read in one pass, and executions that are advanced at the same time.
_AT_ONCE = 1_000
DUE_MOST = 10_000
_THREADS = 8
_PATIENCE_SECONDS = 60.0
_RECONCILE_SECONDS = 60.0
_LONGEST_PAUSE = 300.0
# Less than the grace period of a process that SIGTERM ends.
_STOP_SECONDS = 7.0
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Moved:
    """An execution, a schedule or events that a pass looked at: what was done, or why nothing was.

    `exec_id` is empty for the others. `ticks` are the ticks of the schedule `schedule` that were
    decided. `events` is what events did.
    """

    exec_id: str
    done: Advanced | None = None
    error: KitaruError | None = None
    schedule: str = ""
    ticks: tuple[ScheduleEntry, ...] = ()
    events: tuple[Delivery, ...] = ()


@dataclass(frozen=True, slots=True)
class Due:
    """What is due in a store.

    Attributes:
        hints: number of hints, at most `DUE_MOST`.
        is_more: whether there are more hints than were counted.
        executions: number of their executions and schedules; all events count as one.
        oldest_seconds: age of the oldest hint; None without hints.
        open: number of rounds that were begun and are not closed.
        queued: number of executions that wait for a place, by flow, at most `DUE_MOST` each.
    """

    hints: int
    is_more: bool
    executions: int
    oldest_seconds: float | None
    open: int
    queued: dict[str, int] = field(default_factory=dict)


def due(store: Store) -> Due:
    """Return what is due. If it does not fall, no dispatcher runs, or a service refuses.

    Example:
        due(open_store("sqlite:kitaru.db")).oldest_seconds
    """
    listed = store.list(keys.DUE, limit=DUE_MOST + 1)
    found = _until_now(listed)
    now_due = found[:DUE_MOST]
    written = zip(now_due, store.get_all(now_due[:100]), strict=False)
    return Due(
        len(now_due),
        len(found) > DUE_MOST,
        len({keys.due_parts(hint)[1] for hint in now_due}),
        max((_age(hint, at.decode("ascii")) for hint, at in written if at), default=None),
        len(store.list(keys.OPEN, limit=DUE_MOST)),
        {flow: number for flow in places.queues(store) if (number := _queued(store, flow))},
    )


def _queued(store: Store, flow: str) -> int:
    return len(store.list(keys.queue(flow), limit=DUE_MOST))


class _Patience:
    """How long claims of other processes count, on this process's own monotonic clock."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: dict[str, float] = {}

    def is_over(self, claim: str, is_done: Callable[[], bool]) -> bool:
        """Return whether this process has seen a claim for long enough."""
        del is_done
        return time.monotonic() - self._seen.setdefault(claim, time.monotonic()) >= self._seconds


class _Children:
    """The processes for target `local`, at most `most` at a time on this machine."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._own: dict[str, Process] = {}
        # Executions in processes of other dispatchers, and of earlier ones that were killed.
        self.others: set[str] = set()
        self._starting = 0

    def may_start(self) -> bool:
        """Return whether one more process may start, and reserve its place."""
        with self._lock:
            if self._starting + len(self._own) + len(self.others - self._own.keys()) >= self.most:
                return False
            self._starting += 1
            return True

    def started(self, exec_id: str, process: Process | None) -> None:
        """Release the reserved place, or fill it with a process."""
        with self._lock:
            self._starting -= 1
            if process is not None:
                self._own[exec_id] = process

    def ended(self) -> list[str]:
        """Return the executions whose process has ended, and forget the processes."""
        with self._lock:
            over = [one for one, process in self._own.items() if process.popen.poll() is not None]
            for exec_id in over:
                del self._own[exec_id]
            return over

    def stop(self, seconds: float) -> list[str]:
        """End all own processes; return their executions."""
        with self._lock:
            own = dict(self._own)
        end = time.monotonic() + seconds
        for what in (signal.SIGTERM, signal.SIGKILL):
            for process in own.values():
                if process.popen.poll() is None:
                    process.popen.send_signal(what)
            while time.monotonic() < end and any(p.popen.poll() is None for p in own.values()):
                time.sleep(_LOOK_SECONDS)
        for process in own.values():
            process.popen.wait()
        self.ended()
        return list(own)

    @property
    def is_empty(self) -> bool:
        """Whether no own process runs."""
        return not self._own


@dataclass
class Dispatcher:
    """Advances the executions of a store until it is stopped.

    Attributes:
        store: the store.
        processes: maximum number of processes for target `local` at a time.
        report: called with each execution that was moved, or that an error stopped.
        notified: called with each try of a notification.
    """

    store: Store
    processes: int = 2
    report: Callable[[Moved], object] = lambda moved: None
    notified: Callable[[Sent], object] = lambda sent: None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _woken: threading.Event = field(default_factory=threading.Event)
    # When an execution whose step failed is tried again, and after which pause.
    _pauses: dict[str, tuple[float, float]] = field(default_factory=dict)
    _reconciled: float | None = None

    def __post_init__(self) -> None:
        # Seconds between two looks at the store.
        self.every = 5.0 if self.store.remote else 1.0
        self._children = _Children(self.processes)
        self._patience = _Patience(_PATIENCE_SECONDS)
        self._matching = Matching()
        self._executions = ExecutionEvents(self.store)
        self._notifier = notify_of(self.store, self.notified)

    def run(self) -> None:
        """Look and advance until `stop` is called; then end the processes of target `local`."""
        notifying = threading.Thread(target=self._notify, name="kitaru-notifier", daemon=True)
        if self._notifier.channels:
            notifying.start()
        try:
            while not self._stopping.is_set():
                self._woken.clear()
                try:
                    self.look()
                except KitaruError as error:
                    # Such as a store that cannot be reached for a while.
                    self.report(Moved("", error=error))
                self._woken.wait(self.every)
        finally:
            self.close()
            if notifying.is_alive():
                # What it is sending is sent again otherwise.
                notifying.join(_STOP_SECONDS)

    def _notify(self) -> None:
        """Send notifications until `stop` is called."""
        while not self._stopping.is_set():
            try:
                self._notifier.look()
            except Exception as error:
                # A defect must not end all later notifications without a word.
                self.notified(Sent("", "", "", "failed", f"{type(error).__name__}: {error}"))
            self._stopping.wait(self.every)

    def once(self) -> list[Moved]:
        """Advance everything that is due, wait for the processes that were started, and repeat.

        Then it sends the notifications that are due. Returns when nothing more can be done now.
        What failed is tried again by a later call.
        """
        moved = list[Moved]()
        try:
            while not self._stopping.is_set():
                found = self.look()
                moved += found
                if self._children.is_empty and not any(map(_moved, found)):
                    break
                self._stopping.wait(_LOOK_SECONDS)
        finally:
            self.close()
        # A try that fails is repeated by a later call.
        while not self._stopping.is_set() and self._notifier.look():
            pass
        return moved

    def leave(self) -> bool:
        """Look at once for what a request leaves to this dispatcher; return False."""
        self.wake()
        return False

    def wake(self) -> None:
        """Look at once, because this process has just written something."""
        self._woken.set()

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def pause(self) -> None:
        """Wait before another try, or until `stop` is called."""
        self._stopping.wait(self.every)

    def stop(self) -> None:
        """Let `run` return."""
        self._stopping.set()
        self._woken.set()

    def close(self) -> None:
        """End the processes of target `local`. The next dispatcher continues their executions."""
        for exec_id in self._children.stop(_STOP_SECONDS):
            self._close_ended(exec_id)

    def look(self) -> list[Moved]:
        """Advance what is due now, once."""
        for exec_id in self._children.ended():
            self._close_ended(exec_id)
        if self._reconciled is None or time.monotonic() - self._reconciled > _RECONCILE_SECONDS:
            self._reconcile()
            self._match()
            self._reconciled = time.monotonic()
        self._announce()
        listed = _until_now(self.store.list(keys.DUE, limit=_AT_ONCE))
        listed += self._admitted()
        # An execution may have hints of several moments.
        listed.sort(key=lambda hint: keys.due_parts(hint)[1])
        of = groupby(listed, key=lambda hint: keys.due_parts(hint)[1])
        found = [(exec_id, list(hints)) for exec_id, hints in of if self._is_ready(exec_id)]
        # Several dispatchers that begin at different places disturb each other less.
        random.SystemRandom().shuffle(found)
        with ThreadPoolExecutor(_THREADS) as pool:
            moved = list(pool.map(lambda one: self._move(*one), found))
        for one in moved:
            if one.error is not None or _moved(one):
                self.report(one)
        return moved

    def _admitted(self) -> list[str]:
        """Give free places to executions in the queues of their flows; return their hints."""
        found = list[str]()
        for flow in places.queues(self.store):
            try:
                found += places.take(self.store, flow, self._is_ready)
            except KitaruError as error:
                # Such as a damaged entry. Other flows continue.
                self.report(Moved("", error=error))
        return found

    def _move(self, exec_id: str, hints: list[str]) -> Moved:
        if self._stopping.is_set():
            return Moved(exec_id)
        if (schedule := keys.due_schedule(exec_id)) is not None:
            return self._fire(schedule, hints)
        if exec_id == keys.OF_EVENTS:
            return self._settle(hints)
        reserved = list[bool]()

        def may_start_here() -> bool:
            may = self._children.may_start()
            reserved.extend([True] * may)
            return may

        means = Means(patience=self._patience, may_start_here=may_start_here)
        process = None
        try:
            done = move(self.store, exec_id, means, hints)
            process = done.submission.process if done.submission is not None else None
            self._pauses.pop(exec_id, None)
            return Moved(exec_id, done)
        except KitaruError as error:
            self._try_later(exec_id)
            return Moved(exec_id, error=error)
        finally:
            for index in range(len(reserved)):
                self._children.started(exec_id, process if index == 0 else None)

    def _fire(self, schedule: str, hints: list[str]) -> Moved:
        """Decide and execute the ticks of a schedule that are due."""
        try:
            return Moved("", schedule=schedule, ticks=tuple(fire(self.store, schedule, hints)))
        except KitaruError as error:
            self._try_later(keys.due_parts(hints[0])[1])
            return Moved("", error=error, schedule=schedule)

    def _settle(self, hints: list[str]) -> Moved:
        """Put new events into their log, and let them have their effects."""
        try:
            return Moved("", events=tuple(settle(self.store, hints)))
        except KitaruError as error:
            self._try_later(keys.OF_EVENTS)
            return Moved("", error=error)

    def _announce(self) -> None:
        """Send the events of executions that have failed, or that ask."""
        try:
            self._executions.look()
        except KitaruError as error:
            self.report(Moved("", error=error))

    def _match(self) -> None:
        """Compare the waits for events with the log again."""
        try:
            if done := self._matching.match_all(self.store):
                self.report(Moved("", events=tuple(done)))
        except KitaruError as error:
            self.report(Moved("", error=error))

    def _try_later(self, exec_id: str) -> None:
        _, pause = self._pauses.get(exec_id, (0.0, self.every))
        pause = min(_LONGEST_PAUSE, 2 * pause)
        self._pauses[exec_id] = time.monotonic() + pause, pause

    def _is_ready(self, exec_id: str) -> bool:
        return time.monotonic() >= self._pauses.get(exec_id, (0.0, 0.0))[0]

    def _close_ended(self, exec_id: str) -> None:
        """Close the round of an own process that ended without closing it."""
        records = RecordStore(self.store)
        found = rounds.newest_round(records, exec_id)
        taken = found.taken
        if found.closed is None and taken is not None and processes.is_gone(taken.run):
            if self._has_failed(exec_id):
                rounds.close(records, exec_id, found.number, "failed", by=taken.run)
            else:
                close_lost(self.store, exec_id, found.number, "its process has ended")

    def _has_failed(self, exec_id: str) -> bool:
        record = RecordStore(self.store).read(ExecutionRecord, keys.execution(exec_id))
        return record is not None and Journal(self.store, record).state().status == "failed"

    def _reconcile(self) -> None:
        """Close the rounds whose run has ended without a word."""
        self._children.others = set()
        for key in self.store.list(keys.OPEN):
            _, exec_id, number = key.split("/")
            try:
                self._reconcile_round(key, exec_id, int(number))
            except KitaruError as error:
                self.report(Moved(exec_id, error=error))

    def _reconcile_round(self, key: str, exec_id: str, number: int) -> None:
        records = RecordStore(self.store)
        found = rounds.read_round(records, exec_id, number)
        if found.closed is not None or read_end(records, exec_id) is not None:
            rounds.drop(self.store, key)
            return
        taken = found.taken
        if taken is not None and taken.target == "local":
            if processes.is_gone(taken.run):
                self._close_ended(exec_id)
            else:
                self._children.others.add(exec_id)
            return
        if (run := found.run or taken) is None:
            return
        execution = records.read(ExecutionRecord, keys.execution(exec_id))
        if execution is not None and current_round(Journal(self.store, execution)).closed:
            return
        if not run_has_ended(run.target, run.run):
            return
        if self._has_failed(exec_id):
            rounds.close(records, exec_id, number, "failed", by=run.run)
        else:
            close_lost(self.store, exec_id, number, "its run has ended")


def _age(hint: str, written: str) -> float:
    """Return for how many seconds a hint is due: since its moment, or since it was written."""
    moment = keys.due_parts(hint)[0] / 1e6
    return min(seconds_since(written), time.time() - moment)


def _until_now(hints: list[str]) -> list[str]:
    """Return the hints that are due: the list is sorted by time."""
    moment = int(digits(now()))
    return [hint for hint in hints if keys.due_parts(hint)[0] <= moment]


def means_of(dispatcher: Dispatcher | None) -> Means:
    """Return how a request starts a run. The dispatcher starts processes on this machine.

    It bounds their number. Without a dispatcher, the request starts them.
    """
    if dispatcher is None:
        return Means()
    # The hint is written first, so the dispatcher finds it.
    return Means(may_start_here=dispatcher.leave)


def _moved(one: Moved) -> bool:
    """Return whether a pass did something for an execution or a schedule."""
    done = one.done
    return bool(one.ticks or one.events) or (
        done is not None
        and (
            (done.notice is not None and done.notice.outcome != "busy")
            or (done.submission is not None and done.submission.is_new)
        )
    )
