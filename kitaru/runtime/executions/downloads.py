"""Give people a recorded value as a file, from the bucket itself where the store can sign URLs."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from kitaru import hints
from kitaru.errors import StateError, UsageError
from kitaru.runtime.executions.artifacts import find_artifact
from kitaru.runtime.executions.value_files import ValueFile, file_of
from kitaru.runtime.journal.journal import Journal
from kitaru.stores.base import Sharing
from kitaru.wire import keys
from kitaru.wire.structs import Struct
from kitaru.wire.times import written

if TYPE_CHECKING:
    from kitaru.stores.base import Store

LIFETIME = timedelta(minutes=5)
"""Default lifetime of a signed URL."""

MAX_LIFETIME = timedelta(hours=1)


class SignedURL(Struct):
    """A URL from which anybody can read a value until it expires.

    Attributes:
        url: contains the permission: everybody who has it can read the value.
        expires_at: when it expires. It expires earlier if the credentials of the store do.
        name: name of the file that browsers save.
        size: bytes of the file.
    """

    url: str
    expires_at: str
    name: str
    size: int


def read_file(store: Store, exec_id: str, name: str) -> ValueFile:
    """Return an artifact as a file that people can open; see `file_of`.

    Raises:
        NotFound: there is no such execution or artifact.
        StateError: several invocations saved an artifact with this name.

    Example:
        read_file(store, exec_id, "chart").media_type  # image/png
    """
    journal = Journal.open(store, exec_id)
    return file_of(name, journal.fetch(find_artifact(journal, name)))


def sign(store: Store, exec_id: str, file: ValueFile, lifetime: timedelta) -> SignedURL | None:
    """Return a signed URL of a file of an execution; None if its store cannot sign.

    The bucket gets a copy of the value, since recorded values are encoded. Garbage collection
    removes it with its execution. The URL is neither recorded nor logged.

    Raises:
        UsageError: the lifetime is not between a second and `MAX_LIFETIME`.
    """
    if not timedelta(seconds=1) <= lifetime <= MAX_LIFETIME:
        raise UsageError(
            f"A URL cannot be valid for {lifetime.total_seconds():g} seconds.",
            help=f"Use 1 to {MAX_LIFETIME.total_seconds():.0f} seconds.",
        )
    if not isinstance(store, Sharing):
        return None
    digest = hashlib.sha256(file.name.encode("ascii") + b"\n" + file.data).hexdigest()
    expires_at = written(datetime.now(UTC) + lifetime)
    url = store.share(keys.download(exec_id, digest), file.data, file.name, lifetime)
    return None if url is None else SignedURL(url, expires_at, file.name, len(file.data))


def signed_url(store: Store, exec_id: str, name: str, lifetime: timedelta = LIFETIME) -> SignedURL:
    """Return a URL from which anybody can read an artifact until it expires; see `sign`.

    Raises:
        NotFound: there is no such execution or artifact.
        StateError: the store cannot sign, or several invocations saved an artifact with this name.
        UsageError: the lifetime is not between a second and `MAX_LIFETIME`.

    Example:
        signed_url(store, exec_id, "chart", timedelta(minutes=1)).url
    """
    found = sign(store, exec_id, read_file(store, exec_id, name), lifetime)
    if found is None:
        raise StateError(
            f"The store {store.url} cannot sign URLs. Buckets can, with credentials that contain "
            "a key.",
            help="Read the value instead: "
            + hints.command(store, "artifacts", "get", exec_id, name),
        )
    return found
