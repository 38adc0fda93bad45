"""Simulated threads, locks, clocks and random numbers, which replace Python's own."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, tzinfo
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tests.simulation.scheduler import Scheduler, Task

if TYPE_CHECKING:
    from tests.simulation.processes import Process

# The current run; there is one at a time.
_runs: list[Scheduler] = []


def scheduler() -> Scheduler:
    """Return the scheduler of the current run."""
    return _runs[-1]


def use(one: Scheduler | None) -> None:
    """Make `one` the scheduler of the current run; None ends the run."""
    _runs[:] = [one] if one is not None else []


def current() -> Process:
    """Return the process of the current thread."""
    task = scheduler().current
    assert task is not None
    return task.process


class Waiters:
    """The threads that wait for an event."""

    def __init__(self) -> None:
        self._tasks: list[Task] = []

    def wait(self, seconds: float = inf) -> bool:
        run = scheduler()
        task = run.current
        assert task is not None
        self._tasks.append(task)
        try:
            return run.block(seconds)
        finally:
            if task in self._tasks:
                self._tasks.remove(task)

    def wake(self, count: int | None = None) -> None:
        some = self._tasks[:count]
        del self._tasks[: len(some)]
        for task in some:
            scheduler().wake(task)


class Lock:
    """A lock; with `again`, its owner can acquire it again."""

    def __init__(self, *, again: bool = False) -> None:
        self._again = again
        self._owner: Task | None = None
        self._depth = 0
        self._waiters = Waiters()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        run = scheduler()
        run.switch()
        if self._owner is run.current and self._again:
            self._depth += 1
            return True
        until = inf if timeout is None or timeout < 0 else run.now + timeout
        while self._owner is not None:
            if not blocking or run.now >= until:
                return False
            self._waiters.wait(until - run.now)
        self._owner, self._depth = run.current, 1
        return True

    def release(self) -> None:
        if self._owner is None:
            raise RuntimeError("release of a lock that nobody has")
        self._depth -= 1
        if self._depth == 0:
            self._owner = None
            self._waiters.wake()

    def locked(self) -> bool:
        return self._owner is not None

    def is_mine(self) -> bool:
        return self._owner is scheduler().current

    def give_up(self) -> int:
        depth, self._depth = self._depth, 1
        self.release()
        return depth

    def take_back(self, depth: int) -> None:
        self.acquire()
        self._depth = depth

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        # A thread whose process was killed during a wait does not own the lock any more.
        if self._owner is scheduler().current:
            self.release()


def RLock() -> Lock:
    return Lock(again=True)


class Condition:
    """A condition variable."""

    def __init__(self, lock: Lock | None = None) -> None:
        self._lock = lock or RLock()
        self._waiters = Waiters()
        self.acquire, self.release = self._lock.acquire, self._lock.release

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.__exit__(kind, error, trace)

    def wait(self, timeout: float | None = None) -> bool:
        depth = self._lock.give_up()
        try:
            return self._waiters.wait(inf if timeout is None else timeout)
        finally:
            if not current().is_dead:
                self._lock.take_back(depth)

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        run = scheduler()
        until = inf if timeout is None else run.now + timeout
        while not (result := predicate()):
            if run.now >= until:
                return predicate()
            self.wait(until - run.now)
        return result

    def notify(self, n: int = 1) -> None:
        self._waiters.wake(n)

    def notify_all(self) -> None:
        self._waiters.wake()


class Event:
    """An event."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiters = Waiters()

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        scheduler().switch()
        self._is_set = True
        self._waiters.wake()

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        run = scheduler()
        run.switch()
        until = inf if timeout is None else run.now + timeout
        while not self._is_set and run.now < until:
            self._waiters.wait(until - run.now)
        return self._is_set


class Thread:
    """A thread of the process that creates it."""

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
    ) -> None:
        self.name = name or "thread"
        self.daemon = bool(daemon)
        self._work = lambda: target(*args, **(kwargs or {})) if target else None
        self._task: Task | None = None
        self._ended = Waiters()
        self.ident: int | None = None

    def start(self) -> None:
        run = scheduler()
        run.switch()
        process = current()
        if process.refuses_thread():
            raise RuntimeError("can't start new thread")
        self._task = run.spawn(process, self.name, self._work)
        self._task.thread = self
        self.ident = self._task.number
        process.threads.append(self)
        run.switch()

    def ended(self) -> None:
        """Wake the threads that wait for the end of this thread."""
        assert self._task is not None
        if self in self._task.process.threads:
            self._task.process.threads.remove(self)
        self._ended.wake()

    def is_alive(self) -> bool:
        return self._task is not None and not self._task.is_done

    def join(self, timeout: float | None = None) -> None:
        run = scheduler()
        run.switch()
        until = inf if timeout is None else run.now + timeout
        while self.is_alive() and run.now < until:
            self._ended.wait(until - run.now)


class Threading:
    """The module `threading`."""

    Lock, RLock, Condition, Event, Thread = Lock, staticmethod(RLock), Condition, Event, Thread
    local = threading.local
    get_ident = staticmethod(threading.get_ident)
    __file__ = threading.__file__

    @staticmethod
    def current_thread() -> Any:
        task = scheduler().current
        assert task is not None
        return task.thread

    @staticmethod
    def main_thread() -> Any:
        return current().main

    @staticmethod
    def enumerate() -> list[Any]:
        return list(current().threads)


class Time:
    """The module `time`: each process has a separate wall clock."""

    @staticmethod
    def sleep(seconds: float) -> None:
        scheduler().block(seconds)

    @staticmethod
    def monotonic() -> float:
        return scheduler().now

    perf_counter = monotonic

    @staticmethod
    def time() -> float:
        return current().clock()

    @staticmethod
    def time_ns() -> int:
        return int(current().clock() * 1_000_000) * 1000

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class Moments(datetime):
    """The class `datetime`, on the wall clock of the process."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        return datetime.fromtimestamp(current().clock(), tz or UTC)


class System:
    """The module `os`, with the functions that distinguish processes."""

    @staticmethod
    def getpid() -> int:
        return current().pid

    @staticmethod
    def urandom(size: int) -> bytes:
        return current().random_bytes(size)

    @staticmethod
    def uname() -> Any:
        return type("uname", (), {"nodename": "simulated"})

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


class Chance:
    """The module `random`: every generator draws from the random numbers of the process."""

    class SystemRandom(random.Random):
        def random(self) -> float:
            return int.from_bytes(current().random_bytes(7)[:7]) / 2**56

        def getrandbits(self, k: int) -> int:
            return int.from_bytes(current().random_bytes((k + 7) // 8)) >> (-k % 8)

    def __getattr__(self, name: str) -> Any:
        return getattr(random, name)


REPLACED: list[tuple[object, object]] = [
    (threading, Threading()),
    (time, Time()),
    (os, System()),
    (random, Chance()),
    (threading.Event, Event),
    (threading.Thread, Thread),
]


def replacements(namespace: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield the globals of a module that must be replaced, with their replacements."""
    for name, value in namespace.items():
        for real, simulated in REPLACED:
            if value is real:
                yield name, simulated
