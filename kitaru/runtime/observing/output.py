"""Decides which invocation a piece of output belongs to: the one whose code wrote it.

`sys.stdout` and `sys.stderr` stay what they are for whoever looks at the terminal or the container:
every text goes there first, as it is.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kitaru.config import setting
from kitaru.runtime.running.context import current

if TYPE_CHECKING:
    from kitaru.runtime.running.engine import Execution

_STREAMS = ("stdout", "stderr")
_busy = threading.local()
_lock = threading.Lock()
_captures = 0
_process: Execution | None = None


class Tee:
    """A stream that hands on what is written to it, and notes it with the invocation that wrote."""

    def __init__(self, stream: Any, name: str) -> None:
        self.inner = stream
        self._name = name

    def write(self, text: str) -> Any:
        outer = not getattr(_busy, "writing", False)
        _busy.writing = True
        try:
            return self.inner.write(text)
        finally:
            if outer:
                _busy.writing = False
                _note(self._name, text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.inner)


def begin(process: Execution | None = None) -> None:
    """Capture output until `end` is called as often as this.

    `process` is the execution that this whole process is for: code of no invocation writes for it.
    """
    global _captures, _process
    with _lock:
        _process = process or _process
        _captures += 1
        if setting("logs").value:
            _put_on_top()


def end() -> None:
    """Stop capturing, once everybody has."""
    global _captures, _process
    with _lock:
        _captures -= 1
        if _captures == 0:
            _process = None
            for name in _STREAMS:
                stream = getattr(sys, name)
                if isinstance(stream, Tee):
                    _exchange(name, stream, stream.inner)


@contextmanager
def on_top() -> Iterator[None]:
    """Capture also above a stream that somebody puts in place for a while.

    Below it the texts would arrive as it makes them: wrapped to the width of a terminal.
    """
    with _lock:
        before = {name: getattr(sys, name) for name in _STREAMS}
        if _captures and setting("logs").value:
            _put_on_top()
    try:
        yield
    finally:
        for name, stream in before.items():
            _exchange(name, getattr(sys, name), stream)


def _put_on_top() -> None:
    for name in _STREAMS:
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, Tee):
            _exchange(name, stream, Tee(stream, name))


def _exchange(name: str, old: Any, new: Any) -> None:
    """Put a stream in the place of another, also where handlers of logging hold it."""
    setattr(sys, name, new)
    logging = sys.modules.get("logging")
    if logging is None:
        return
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):
            if getattr(handler, "stream", None) is old and hasattr(handler, "setStream"):
                handler.setStream(new)


def _note(stream: str, text: str) -> None:
    scope = current()
    execution = scope.execution if scope else _process
    if execution is None or not text:
        return
    running = scope.running if scope else None
    try:
        execution.log.add(running.invocation if running else "", stream, text)
    except Exception:
        # Whoever prints must not learn that nobody keeps it.
        return
