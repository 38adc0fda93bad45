"""Decides on which threads work goes on beside a caller: few, and none that holds the process."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Pool:
    """At most `size` daemon threads, started when there is work and gone when there is none.

    Daemons, because a suspended or interrupted execution must not hold the interpreter: whatever
    was not recorded runs again. An executor of the standard library takes no work any more once
    the main thread has ended, while an execution may still go on.
    """

    def __init__(self, size: int, name: str = "kitaru-checkpoint") -> None:
        self._size = size
        self._name = name
        self._todo: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._threads = 0

    def submit(self, work: Callable[[], None]) -> None:
        """Run `work`, which must not raise, as soon as a thread is free."""
        with self._changed:
            self._todo.append(work)
            if self._threads >= self._size:
                return
            self._threads += 1
        threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def drain(self, timeout: float | None = None) -> bool:
        """Return when all submitted work is done; False when `timeout` seconds were not enough."""
        with self._changed:
            return self._changed.wait_for(lambda: self._threads == 0, timeout)

    def _work(self) -> None:
        while (work := self._next()) is not None:
            work()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            if self._todo:
                return self._todo.popleft()
            self._threads -= 1
            self._changed.notify_all()
            return None
