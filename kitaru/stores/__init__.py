"""Open a store by its URL."""

from __future__ import annotations

import os

from kitaru.config import setting
from kitaru.errors import UsageError
from kitaru.store_urls import DEFAULT_URL, sqlite_path
from kitaru.stores.base import Store
from kitaru.wire.names import check_name

__all__ = ["Store", "open_store", "resolve_store"]

_REMOTE = ("s3://", "gs://", "az://")


def open_store(url: str | None = None) -> Store:
    """Open the store at `url`. None means `KITARU_STORE`, else `.kitaru/kitaru.db` here.

    Args:
        url: `sqlite:PATH` (a directory gets a `kitaru.db`, a missing file is created),
            `memory:NAME` (shared within this process), `s3://BUCKET/PREFIX`, `gs://…` or `az://…`.

    Raises:
        UsageError: `url` is not a valid store URL.
        EnvironmentFailure: the store cannot be used; `kitaru.errors` lists the three kinds.

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
        from kitaru.stores.object_store import ObjectStore

        return ObjectStore(url)
    raise UsageError(
        f"{url!a} names no store.",
        help="Use sqlite:PATH, memory:NAME, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or "
        "az://CONTAINER/PREFIX.",
    )


def resolve_store(store: str | Store | None) -> Store:
    """Return an open store for an open store, a URL, or None (the configured store).

    Raises the errors of `open_store`.
    """
    if store is None or isinstance(store, str):
        return open_store(setting("store", argument=store).value)
    return store


def _sqlite(place: str) -> Store:
    from kitaru.stores.sqlite import SqliteStore

    return SqliteStore(sqlite_path(place))
