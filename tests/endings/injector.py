"""Fails one call of Kitaru's functions after a marker, which a process prints where it ends."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

PACKAGE = str(Path(__file__).parents[2] / "kitaru") + os.sep
FAILURES = {one.__name__: one for one in (MemoryError, OSError, RuntimeError)}


class Injector:
    """Counts the calls of Kitaru's functions after the marker, on all threads; fails one."""

    def __init__(self, number: int, failure: str) -> None:
        """`number` is that of the call to fail, 0 for none."""
        self._number = number
        self._failure = FAILURES[failure]
        self._counter = itertools.count(1)
        self._is_ending = False
        self._calls = -1 if number else os.open("calls", os.O_WRONLY | os.O_CREAT)
        # The globals of this module are gone before the last calls of a process.
        self._package, self._next, self._write = PACKAGE, next, os.write

    def arm(self) -> None:
        threading.settrace(self._trace)
        sys.settrace(self._trace)

    def _trace(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(self._package):
            return
        if not self._is_ending:
            self._is_ending = frame.f_locals.get("text") == "ENDS"
            return
        if code.co_name == "_report":
            # An exit handler: nothing in it that can fail comes before its `try`.
            return
        number = self._next(self._counter)
        if self._calls >= 0:
            place = f"{code.co_filename.removeprefix(self._package)}:{code.co_qualname}"
            self._write(self._calls, f"{place}\n".encode())
        elif number == self._number:
            raise self._failure("injected")
