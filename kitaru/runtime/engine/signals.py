"""SIGTERM ends a process as Ctrl-C does: logs are written, the next command is printed.

Services, containers and `timeout` end a process with SIGTERM. Python's default ends it at once: the
last second of logs is lost, and nobody learns how to resume. So where no one else handles the
signal, the main thread gets `Terminated`, which unwinds it as KeyboardInterrupt does. The body of a
flow runs on another thread and is not unwound. (A step runs the body on its main thread, and ends
its process otherwise: see `kitaru.runtime.steps.process`.)

A program that has a handler of its own, such as a web server, keeps it.
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

# Kubernetes and Docker send SIGKILL 30 and 10 seconds after SIGTERM.
_GRACE_SECONDS = 9

_came = False
_handler: Callable[[int, FrameType | None], Any] | None = None


class Terminated(SystemExit):
    """SIGTERM arrived; the process exits with 143."""

    def __init__(self) -> None:
        super().__init__(TERMINATED)


def code_of(interruption: BaseException) -> int:
    """Return the exit code of a process that an exception outside of a flow ended."""
    if isinstance(interruption, Terminated):
        return TERMINATED
    return INTERRUPTED if isinstance(interruption, KeyboardInterrupt) else 1


def came() -> bool:
    """Return whether SIGTERM arrived and was raised."""
    return _came


def raise_when(is_needed: Callable[[], bool]) -> None:
    """Raise `Terminated` in the main thread on SIGTERM from now on, unless another handler is set.

    `is_needed` shows whether there is something to end well; otherwise the process ends at once, as
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
    # Only the main thread may set a handler.
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
    """Handle SIGTERM as Python does, in a forked child."""
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
    """End the process in any case after a while: a store that does not answer may hold it up."""
    timer = threading.Timer(_GRACE_SECONDS, os._exit, (TERMINATED,))
    timer.daemon = True
    # Without memory or threads it ends when SIGKILL follows.
    with suppress(RuntimeError, MemoryError):
        timer.start()


def _end_at_once() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
