"""Bounded waits: what the code under test never does makes a test fail, not hang."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

# Far more than anything takes on a busy machine.
SECONDS = 60.0
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
    """Return as soon as there is a file at `path`, at most a minute later."""
    wait_until(path.exists)


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
