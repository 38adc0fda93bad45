"""What commands that serve a store have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kitaru.errors import UsageError

TOKEN = "KITARU_TOKEN"


@contextmanager
def needs_server() -> Iterator[None]:
    """Turn a missing package of the extra `server` into a UsageError."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(
            f"The service needs the package {error.name}.",
            help="Install Kitaru with the extra server.",
        ) from error
