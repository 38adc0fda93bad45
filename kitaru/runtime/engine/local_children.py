"""The child executions that run in this process, or in a process that it has started.

Their parent does not wait for a dispatcher: it continues as soon as such a child is idle, which
means that the child has ended or is itself parked. At most `most` children of one parent run at a
time. Each parent counts its own, so a child that waits for its own children blocks nobody.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from kitaru.stores.base import Store


class RunningChild(Protocol):
    """A child that was started here."""

    def when_idle(self, notify: Callable[[], object]) -> None:
        """Call `notify` once, on any thread, as soon as the child cannot continue by itself."""


Start = Callable[[], RunningChild | None]
StartDeployed = Callable[[Store, str], RunningChild | None]


class LocalChildren:
    """The children of one execution. Safe for threads."""

    def __init__(
        self,
        most: int,
        start_deployed: StartDeployed | None = None,
    ) -> None:
        """`start_deployed` starts the run of a child that is an execution of a deployed version."""
        self._most = most
        self._start_deployed = start_deployed
        self._lock = threading.Lock()
        self._queue: deque[tuple[str, Start]] = deque()
        self._running = 0
        # What is called when a child is idle, by the name of the wait for it.
        self._watchers: dict[str, list[Callable[[], object]]] = {}
        self._known: set[str] = set()

    def begin(self, wait: str, start: Start) -> None:
        """Start a child, or queue it until fewer are running. Another call with `wait` is ignored.

        `start` returns None if nothing of the child runs here.
        """
        with self._lock:
            if wait in self._known:
                return
            self._known.add(wait)
            self._watchers[wait] = []
            self._queue.append((wait, start))
        self._start_next()

    def begin_deployed(self, wait: str, store: Store, exec_id: str) -> None:
        """Start a child of a deployed version, if this process can; else a dispatcher does."""
        if (start := self._start_deployed) is not None:
            self.begin(wait, lambda: start(store, exec_id))

    def when_idle(self, wait: str, notify: Callable[[], object]) -> bool:
        """Call `notify` when the child of a wait is idle; return False if it is idle already."""
        with self._lock:
            if wait not in self._watchers:
                return False
            self._watchers[wait].append(notify)
            return True

    def wait_until_idle(self, wait: str) -> None:
        """Wait until the child of a wait is idle, if it runs here."""
        idle = threading.Event()
        if self.when_idle(wait, idle.set):
            idle.wait()

    def _start_next(self) -> None:
        while True:
            with self._lock:
                if self._running >= self._most or not self._queue:
                    return
                self._running += 1
                wait, start = self._queue.popleft()
            try:
                child = start()
            except Exception:
                # The child's state says why. Its parent then waits as for a child elsewhere.
                child = None
            if child is None:
                self._idle(wait)
            else:
                child.when_idle(lambda wait=wait: self._ended(wait))  # type: ignore[misc]

    def _ended(self, wait: str) -> None:
        self._idle(wait)
        if self._queue:
            # The caller holds a lock of the child that has just ended.
            threading.Thread(target=self._start_next, name="kitaru-children").start()

    def _idle(self, wait: str) -> None:
        with self._lock:
            self._running -= 1
            watchers = self._watchers.pop(wait, [])
        for notify in watchers:
            notify()
