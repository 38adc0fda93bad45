"""Prevent calls from starting or changing an execution while Kitaru imports a module.

`kitaru.wire.importing` explains the reason and the rules. This module is separate because every
flow needs it, and only few processes import flows.
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
    """Raise if the current import must not do `what`; `module` defines the flow.

    Raises:
        NotStarted: Kitaru imports a module in this thread, and its top level does `what`.
        SystemExit: Kitaru imports `module`, and a thread that its top level started does `what`.
            The thread ends without a traceback.
        UsageError: `multiprocessing` imports the script in a separate process.
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
    """Mark the block as an import by Kitaru in this thread."""
    token = _importing.set(True)
    try:
        yield
    finally:
        _importing.reset(token)


def _is_being_imported(module: str) -> bool:
    """Return whether Kitaru currently imports a module, perhaps in another thread."""
    spec = getattr(sys.modules.get(module), "__spec__", None)
    ours = getattr(getattr(spec, "loader", None), "starts_nothing", False)
    return ours is True and getattr(spec, "_initializing", False) is True
