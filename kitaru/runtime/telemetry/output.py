"""Attribute each piece of output to the invocation whose code wrote it.

`sys.stdout` and `sys.stderr` show the same output on the terminal or in the container as without
Kitaru: every text is first written there unchanged. If a reader such as `head` closes its end of a
pipe, the checkpoint does not fail: from then on, output is only recorded. The same applies with the
setting `logs = false`, which records nothing.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kitaru.config import setting
from kitaru.runtime.engine.execution import Execution, current

_STREAMS = ("stdout", "stderr")
_busy = threading.local()
_lock = threading.Lock()
_captures = 0
_process: Execution | None = None
# The newest streams made here, also those that `sys` has no more. Before Python 3.14, `print` uses
# `sys.stdout` without a reference of its own, from one of its texts to the next. If another thread
# replaced the stream meanwhile and nothing else held it, `print` would use freed memory.
_made: deque[Tee] = deque(maxlen=16)


class Tee:
    """A stream that forwards what is written, and records it with the invocation that wrote it."""

    def __init__(self, stream: Any, name: str, *, notes: bool) -> None:
        self.inner = stream
        self._name = name
        self._notes = notes

    def write(self, text: str) -> Any:
        outer = not getattr(_busy, "writing", False)
        _busy.writing = True
        try:
            return self.inner.write(text)
        except BrokenPipeError:
            _discard(self.inner)
            return len(text)
        finally:
            if outer:
                _busy.writing = False
                if self._notes:
                    _note(self._name, text)

    def is_for(self, stream: Any, name: str, *, notes: bool) -> bool:
        """Return whether this object forwards to `stream` under these conditions."""
        return self.inner is stream and (self._name, self._notes) == (name, notes)

    def flush(self) -> None:
        try:
            self.inner.flush()
        except BrokenPipeError:
            _discard(self.inner)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.inner)


def begin(process: Execution | None = None) -> None:
    """Capture output until `end` has been called once for each call of this function.

    `process` is the execution that this process runs. It owns output outside of invocations.
    """
    global _captures, _process
    with _lock:
        _process = process or _process
        _captures += 1
        _put_on_top()


def end() -> None:
    """Stop capturing after the last matching call."""
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
    """Capture above the streams that other code has installed, inside the block.

    Such a stream may wrap texts to the width of a terminal. They are recorded before it does.
    """
    with _lock:
        before = {name: getattr(sys, name) for name in _STREAMS}
        if _captures:
            _put_on_top()
    try:
        yield
    finally:
        for name, stream in before.items():
            _exchange(name, getattr(sys, name), stream)


def _forget() -> None:
    """Stop capturing in a forked child: its threads are gone, and locks may be held forever."""
    global _captures, _process, _lock, _busy
    _lock, _busy = threading.Lock(), threading.local()
    _captures, _process = 0, None
    for name in _STREAMS:
        stream = getattr(sys, name)
        while isinstance(stream, Tee):
            _exchange(name, stream, stream.inner)
            stream = stream.inner


os.register_at_fork(after_in_child=_forget)


def _discard(stream: Any) -> None:
    """Discard what a stream writes and what it has buffered, because it has no reader."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    except (OSError, ValueError, AttributeError):
        # The stream has no file: the next write may fail again, and is caught again.
        pass
    finally:
        os.close(nowhere)


def _put_on_top() -> None:
    notes = bool(setting("logs").value)
    for name in _STREAMS:
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, Tee):
            _exchange(name, stream, _tee(stream, name, notes=notes))


def _tee(stream: Any, name: str, *, notes: bool) -> Tee:
    """Return the stream that was made before for the same purpose, or a new one."""
    for made in _made:
        if made.is_for(stream, name, notes=notes):
            return made
    _made.append(Tee(stream, name, notes=notes))
    return _made[-1]


def _exchange(name: str, old: Any, new: Any) -> None:
    """Replace a stream with another, also in the handlers of logging."""
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
    # A `print` must not fail if its output cannot be recorded.
    with suppress(Exception):
        scope = current()
        execution = scope.execution if scope else _process
        if execution is not None and text:
            running = scope.running if scope else None
            execution.log.add(running.invocation if running else "", stream, text)
