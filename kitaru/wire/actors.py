"""Who does something outside of a flow: the name that answers, cancellations and tags record."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from kitaru.wire.limits import MAX_NAME_CHARACTERS

_acting: ContextVar[str] = ContextVar("kitaru_actor", default="")


def actor() -> str:
    """Return the name that `acting_as` set, else the user of this process, such as `maria`."""
    return _acting.get() or _user()


@contextmanager
def acting_as(name: str) -> Iterator[None]:
    """Record this name for what the block changes. A service acts for its callers.

    Example:
        >>> with acting_as("maria"):
        ...     actor()
        'maria'
    """
    token = _acting.set(name[:MAX_NAME_CHARACTERS])
    try:
        yield
    finally:
        _acting.reset(token)


def _user() -> str:
    """Return the name of the process's user. The environment of a container may have none."""
    for variable in ("LOGNAME", "USER", "USERNAME"):
        if name := os.environ.get(variable, ""):
            return name[:MAX_NAME_CHARACTERS]
    return f"uid {os.getuid()}" if hasattr(os, "getuid") else ""
