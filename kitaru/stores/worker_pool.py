"""A small pool of daemon threads, which never keep the process alive."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import inf

_LOOK_SECONDS = 1.0


class Pool:
    """At most `size` daemon threads, started for work and ended when idle.

    The threads are daemons, because a suspended or interrupted execution must not keep the
    interpreter alive: calls without a record run again later. An executor of the standard library
    accepts no work after the main thread has ended, while an execution may still continue.
    """

    def __init__(self, size: int, name: str = "kitaru-checkpoint") -> None:
        self._size = size
        self._name = name
        self._todo: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._workers: set[threading.Thread | _Caller] = set()

    def submit(self, work: Callable[[], None]) -> None:
        """Run `work` as soon as a thread is free. `work` must not raise.

        If the system cannot start a thread, the caller runs the work.
        """
        with self._changed:
            self._todo.append(work)
            if len(self._workers) >= self._size:
                return
            thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._workers.add(thread)
        try:
            thread.start()
        except (RuntimeError, MemoryError):
            with self._changed:
                self._workers.discard(thread)
            self._work_here()

    def drain(self, timeout: float | None = None) -> bool:
        """Wait for all submitted work; return False if `timeout` seconds were not enough."""
        deadline = inf if timeout is None else time.monotonic() + timeout
        while True:
            with self._changed:
                left = min(_LOOK_SECONDS, deadline - time.monotonic())
                if self._changed.wait_for(lambda: not self._workers and not self._todo, left):
                    return True
            if time.monotonic() >= deadline:
                return False
            self.tend()

    def tend(self) -> None:
        """Run the work of dead threads: without memory, a thread can end before its first line.

        Called by threads that wait for submitted work.
        """
        with self._changed:
            self._workers = {one for one in self._workers if one.is_alive()}
            if self._workers or not self._todo:
                self._changed.notify_all()
                return
        self._work_here()

    def _work_here(self) -> None:
        caller = _Caller()
        with self._changed:
            self._workers.add(caller)
        self._work(caller)

    def _work(self, worker: threading.Thread | _Caller | None = None) -> None:
        while (work := self._next(worker or threading.current_thread())) is not None:
            # An exception here must not end the thread: other callers wait for the next work item.
            with suppress(Exception):
                work()

    def _next(self, worker: threading.Thread | _Caller) -> Callable[[], None] | None:
        with self._changed:
            if self._todo:
                return self._todo.popleft()
            self._workers.discard(worker)
            self._changed.notify_all()
            return None


class _Caller:
    """A caller's own thread that runs the work of the pool."""

    def is_alive(self) -> bool:
        return True
