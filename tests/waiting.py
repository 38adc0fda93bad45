"""Bounded waits: what the code under test never does makes a test fail, not hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

from kitaru.runtime.engine import retries

# Far more than anything takes on a busy machine.
SECONDS = 240.0
MOST_ATTEMPTS = 1000


def wait_until(holds: Callable[[], object], seconds: float = SECONDS) -> None:
    """Return as soon as `holds` returns something true.

    Raises:
        AssertionError: it still returns nothing true after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not so after {seconds:g} s: {holds}"
        time.sleep(0.005)


def wait_for_file(path: Path) -> None:
    """Return as soon as there is a file at `path`, at the latest after `SECONDS`."""
    wait_until(path.exists)


def time_hangs(patch: Callable[[object, str, object], None] = setattr) -> threading.Event:
    """Return an event that an attempt sets before it hangs; its timeout counts from then on.

    A timeout is short in a test. A busy machine must not decide what an attempt has done by then,
    and an attempt that ends has all the time that it needs.

    Args:
        patch: what sets an attribute, `monkeypatch.setattr` where the change is to be undone.
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
        AssertionError: the loop has not been left after `most` rounds.

    Example:
        >>> for number in attempts():
        ...     if number * number > 10:
        ...         break
        >>> number
        4
    """
    yield from range(1, most + 1)
    raise AssertionError(f"no end after {most} attempts")
