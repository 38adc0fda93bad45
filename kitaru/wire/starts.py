"""Whether a call that starts or changes an execution is part of an import that Kitaru does.

The reason and the rules: `kitaru.wire.importing`. Apart from it, because every flow needs this, and
only few processes import flows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from kitaru.errors import UsageError

_importing: ContextVar[bool] = ContextVar("kitaru_importing", default=False)


class NotStarted(BaseException):
    """Ends a top-level statement that would start an execution while Kitaru imports its module.

    Like `SystemExit`, it passes through `except Exception`.
    """


def refuse_while_importing(what: str, module: str = "") -> None:
    """Raise where an import must not do `what`; `module` is the one that defines the flow.

    Raises:
        NotStarted: Kitaru imports a module in this thread, which does `what` at its top level.
        SystemExit: Kitaru imports `module`, and a thread that its top level started does `what`.
            The thread ends without a traceback.
        UsageError: `multiprocessing` imports the script in a process of its own.
    """
    if importing():
        raise NotStarted
    if _is_being_imported(module):
        raise SystemExit(0)
    processes: Any = sys.modules.get("multiprocessing.process")
    if processes is not None and getattr(processes.current_process(), "_inheriting", False):
        raise UsageError(
            f"{what} was called while multiprocessing imports the script in a new process.",
            help='Put the call under `if __name__ == "__main__":`.',
        )


def importing() -> bool:
    """Return whether Kitaru imports a module in this thread or task."""
    return _importing.get()


@contextmanager
def imports() -> Iterator[None]:
    """Mark what this thread does as an import by Kitaru."""
    token = _importing.set(True)
    try:
        yield
    finally:
        _importing.reset(token)


def _is_being_imported(module: str) -> bool:
    """Return whether Kitaru imports a module at this moment, perhaps on another thread."""
    spec = getattr(sys.modules.get(module), "__spec__", None)
    ours = getattr(getattr(spec, "loader", None), "starts_nothing", False)
    return ours is True and getattr(spec, "_initializing", False) is True
