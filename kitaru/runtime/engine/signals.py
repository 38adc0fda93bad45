"""End the process on SIGTERM as on Ctrl-C: write the logs and print the next command.

Services, containers and `timeout` send SIGTERM to end a process. By default Python ends at once:
the last second of logs is lost, and no command to resume is printed. Unless the program handles the
signal itself, `Terminated` is raised in the main thread and unwinds it like KeyboardInterrupt. The
body of a flow runs on another thread and is not unwound. (A step runs the body on its main thread
and ends its process in another way: see `kitaru.runtime.steps.process`.)

A program with its own handler, such as a web server, keeps that handler.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM

# Docker sends SIGKILL 10 seconds after SIGTERM, Kubernetes 30 seconds.
_GRACE_SECONDS = 9

_came = False
_handler: Callable[[int, FrameType | None], Any] | None = None


class Terminated(SystemExit):
    """SIGTERM was received; the process exits with 143."""

    def __init__(self) -> None:
        super().__init__(TERMINATED)


def code_of(interruption: BaseException) -> int:
    """Return the exit code for a process ended by an exception outside of a flow."""
    if isinstance(interruption, Terminated):
        return TERMINATED
    return INTERRUPTED if isinstance(interruption, KeyboardInterrupt) else 1


def came() -> bool:
    """Return whether SIGTERM was received and raised."""
    return _came


def raise_when(is_needed: Callable[[], bool]) -> None:
    """From now on raise `Terminated` in the main thread on SIGTERM, unless a handler is set.

    `is_needed` returns whether an orderly end is necessary. If not, the process ends at once, as
    without a handler.
    """
    _handle(lambda: _raise() if is_needed() else _end_at_once())


@contextmanager
def raised() -> Iterator[None]:
    """Raise `Terminated` in the main thread on SIGTERM while the block runs."""
    with handled(_raise):
        yield


@contextmanager
def handled(handler: Callable[[], object]) -> Iterator[None]:
    """Call `handler` on SIGTERM while the block runs, unless another handler is set."""
    is_set = _handle(handler)
    try:
        yield
    finally:
        if is_set:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _handle(handler: Callable[[], object]) -> bool:
    # Python lets only the main thread set a handler.
    if threading.current_thread() is not threading.main_thread():
        return False
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return False

    def on_signal(number: int, frame: FrameType | None) -> Any:
        _end_soon()
        return handler()

    global _handler
    _handler = on_signal
    signal.signal(signal.SIGTERM, on_signal)
    return True


def _forget() -> None:
    """Restore Python's handling of SIGTERM in a forked child."""
    global _came
    _came = False
    if _handler is not None and signal.getsignal(signal.SIGTERM) is _handler:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


os.register_at_fork(after_in_child=_forget)


def _raise() -> None:
    global _came
    _came = True
    raise Terminated


def _end_soon() -> None:
    """End the process after the grace period even if an unresponsive store blocks it."""
    timer = threading.Timer(_GRACE_SECONDS, os._exit, (TERMINATED,))
    timer.daemon = True
    # Without memory or threads, the process ends with the SIGKILL that follows.
    with suppress(RuntimeError, MemoryError):
        timer.start()


def _end_at_once() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
