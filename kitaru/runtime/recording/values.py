"""Decides where a value lies: small ones in their record, large ones in a blob before it."""

from __future__ import annotations

import json
from typing import Any

from kitaru.errors import RecordCorrupt, StoreUnavailable, ValueNotEncodable
from kitaru.stores.base import Store
from kitaru.wire import canonical, keys
from kitaru.wire.limits import INLINE_VALUE_BYTES, MAX_VALUE_BYTES
from kitaru.wire.records import StoredValue
from kitaru.wire.structs import replace

_CONFLICTS = 5


def create_or_read(store: Store, key: str, data: bytes) -> bytes:
    """Create the object, or return what is there already; what is returned is durable.

    Raises:
        StoreUnavailable: the store keeps saying that there is one and that there is none.
    """
    for _ in range(_CONFLICTS):
        if store.create(key, data):
            return data
        # S3 answers a lost race with "exists" even when the other write then fails: write again.
        if (held := store.get(key)) is not None:
            return held
    raise StoreUnavailable(
        f"The store {store.url} says that {key} exists, and that it does not.",
        help=f"Check the store with: kitaru store check {store.url}",
    )


def store_value(store: Store, home: str, document: Any, type: str = "") -> StoredValue:
    """Keep a codec document for the owner whose keys begin with `home`; it need not exist yet.

    Args:
        document: JSON, as `kitaru.runtime.codec.encode` returns it.
        type: the value's type for people.

    Raises:
        ValueNotEncodable: the document is longer than 512 MiB or is not JSON.
    """
    try:
        data = canonical.dumps(document)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueNotEncodable(f"A value cannot be written as JSON: {error}.") from error
    digest = canonical.sha256(data)
    if len(data) <= INLINE_VALUE_BYTES:
        return StoredValue(data=document, size=len(data), digest=digest, type=type)
    _put_blob(store, home, digest, data)
    return StoredValue(blob=digest, size=len(data), digest=digest, type=type)


def load_value(store: Store, home: str, value: StoredValue) -> Any:
    """Return the document of a stored value, its digest verified.

    Raises:
        RecordCorrupt: the blob is missing or is not what was stored.
    """
    if value.blob is None:
        if canonical.digest(value.data) != value.digest:
            raise _damaged(f"a value inside a record below {home}")
        return value.data
    return json.loads(_get_blob(store, home, value))


def copy_value(store: Store, source: str, target: str, value: StoredValue) -> StoredValue:
    """Give the owner at `target` its own copy of a value of the owner at `source`; return it."""
    if value.blob is None or source == target:
        return value
    _put_blob(store, target, value.digest, _get_blob(store, source, value))
    return replace(value, home="")


def shared(value: StoredValue, home: str) -> StoredValue:
    """Return a value of the owner at `home` as the records of any other owner refer to it."""
    return value if value.blob is None or value.home else replace(value, home=home)


def _put_blob(store: Store, home: str, digest: str, data: bytes) -> None:
    if len(data) > MAX_VALUE_BYTES:
        raise ValueNotEncodable(
            f"A value has {len(data):,} bytes as JSON; at most {MAX_VALUE_BYTES:,} are allowed.",
            help="Write it to a file or bucket of your own and return its name instead.",
        )
    key = keys.blob(home, digest)
    if create_or_read(store, key, data) != data:
        raise _damaged(key)


def _get_blob(store: Store, home: str, value: StoredValue) -> bytes:
    key = keys.blob(value.home or home, value.digest)
    data = store.get(key)
    if data is None or value.blob != value.digest or canonical.sha256(data) != value.digest:
        raise _damaged(key)
    return data


def _damaged(what: str) -> RecordCorrupt:
    return RecordCorrupt(
        f"The stored object {what} is missing or damaged.",
        help="Restore it from a backup, or start a new execution with `kitaru run`.",
    )
