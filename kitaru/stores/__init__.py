"""Decides which store a URL names."""

from __future__ import annotations

import os
from pathlib import Path

from kitaru.errors import UsageError
from kitaru.stores.base import Store
from kitaru.wire.names import check_name

__all__ = ["DEFAULT_URL", "Store", "open_store", "sqlite_path"]

DEFAULT_URL = "sqlite:.kitaru/kitaru.db"
_REMOTE = ("s3://", "gs://", "az://")


def open_store(url: str | None = None) -> Store:
    """Open the store that `url` names; None means `KITARU_STORE`, else `.kitaru/kitaru.db` here.

    Args:
        url: `sqlite:PATH` (a directory gets `kitaru.db` inside, a missing file is made),
            `memory:NAME` (shared within this process), `s3://BUCKET/PREFIX`, `gs://…` or `az://…`.

    Raises:
        UsageError: no store has such a URL.
        EnvironmentFailure: the store cannot be used; see the three kinds in `kitaru.errors`.

    Example:
        >>> store = open_store("memory:doc")
        >>> store.create("a/b", b"1"), store.create("a/b", b"2"), store.get("a/b")
        (True, False, b'1')
    """
    url = url or os.environ.get("KITARU_STORE") or DEFAULT_URL
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite" and rest:
        return _sqlite(rest)
    if scheme == "memory":
        from kitaru.stores.memory import named

        return named("memory:" + check_name("memory store", rest or "default"))
    if url.startswith(_REMOTE):
        from kitaru.stores.objects import ObjectStore

        return ObjectStore(url)
    raise UsageError(
        f"{url!a} names no store.",
        help="Use sqlite:PATH, memory:NAME, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or "
        "az://CONTAINER/PREFIX.",
    )


def sqlite_path(place: str) -> Path:
    """Return the file that `sqlite:PLACE` means: in a directory it is `kitaru.db`."""
    path = Path(place).expanduser()
    inside = place.endswith("/") or path.is_dir()
    return path / "kitaru.db" if inside else path


def _sqlite(place: str) -> Store:
    from kitaru.stores.sqlite import SqliteStore

    return SqliteStore(sqlite_path(place))
