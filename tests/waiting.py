"""Bounded waits: a condition that never becomes true makes a test fail, not hang."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

from kitaru.runtime.engine import local_run, retries

# Far more than any wait takes on a busy machine.
SECONDS = 240.0
MOST_ATTEMPTS = 1000


def wait_until(holds: Callable[[], object], seconds: float = SECONDS) -> None:
    """Return as soon as `holds` returns a true value.

    Raises:
        AssertionError: it returns no true value within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not so after {seconds:g} s: {holds}"
        time.sleep(0.005)


def forget_runs() -> None:
    """Let the next resume be one of another process, which has no parked runs.

    The thread of a parked run reads the answers once more before it waits. If it found one, it
    would continue besides the other process.
    """
    for run in list(local_run._running.values()):
        wait_until(lambda run=run: run.phase != "parked" or run._wake or run._changed._waiters)  # type: ignore[misc]
    local_run._running.clear()


def wait_for_file(path: Path) -> None:
    """Return as soon as a file exists at `path`; raise AssertionError after `SECONDS`."""
    wait_until(path.exists)


def time_hangs(patch: Callable[[object, str, object], None] = setattr) -> threading.Event:
    """Return an event that an attempt sets before it hangs; its timeout starts at that moment.

    Timeouts in tests are short. On a busy machine, an attempt must not reach its timeout before it
    hangs, and an attempt that does not hang has unlimited time.

    Args:
        patch: sets an attribute; use `monkeypatch.setattr` to undo the change later.
    """
    hanging = threading.Event()

    class Limit(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            wait_until(lambda: self.is_set() or hanging.is_set())
            hanging.clear()
            return super().wait(timeout)

    patch(retries, "threading", SimpleNamespace(Event=Limit, Thread=threading.Thread))
    return hanging


def attempts(most: int = MOST_ATTEMPTS) -> Iterator[int]:
    """Count from 1, for a loop that breaks when the code under test has ended.

    Raises:
        AssertionError: the loop is still running after `most` rounds.

    Example:
        >>> for number in attempts():
        ...     if number * number > 10:
        ...         break
        >>> number
        4
    """
    yield from range(1, most + 1)
    raise AssertionError(f"no end after {most} attempts")


def stop(pid: int, store: Path) -> None:
    """Send SIGSTOP to a child at a moment at which it does not lock the SQLite file of a store."""
    for _ in attempts():
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        with closing(sqlite3.connect(store, timeout=0)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                os.kill(pid, signal.SIGCONT)
            else:
                return
