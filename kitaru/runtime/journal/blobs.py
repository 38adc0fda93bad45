"""Storage of values: small ones in their record, large ones in a blob before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

from kitaru.errors import RecordCorrupt, StoreUnavailable, ValueNotEncodable, ValueTooLarge
from kitaru.runtime import codec
from kitaru.stores.base import Store
from kitaru.wire import canonical, keys
from kitaru.wire.chunked_bytes import Chunk, Part, reference, referred
from kitaru.wire.limits import INLINE_VALUE_BYTES, MAX_DOCUMENT_BYTES, MAX_VALUE_BYTES
from kitaru.wire.records import StoredValue
from kitaru.wire.structs import replace

_CONFLICTS = 5
# Number of chunks written or read together.
_AT_ONCE = 4


def create_or_read(store: Store, key: str, data: bytes) -> bytes:
    """Create the object, or return the existing one; the returned bytes are durable.

    Raises:
        StoreUnavailable: the store reports by turns that the object exists and that it does not.
    """
    for _ in range(_CONFLICTS):
        if store.create(key, data):
            return data
        # S3 reports "exists" for a lost race even if the other write then fails. Write again in
        # that case.
        if (held := store.get(key)) is not None:
            return held
    raise StoreUnavailable(
        f"The store {store.url} reports in turn that {key} exists and that it does not.",
        next_step="check store",
        store_url=store.url,
    )


def keep(
    store: Store,
    home: str,
    value: Any,
    where: str,
    *,
    may_pickle: codec.MayPickle = codec.never,
    type: str = "",
) -> StoredValue:
    """Encode a value and store it for the owner with the key prefix `home`.

    Args:
        where: the start of the paths in errors, such as `result`.
        type: the displayed type of the value, by default the name of its class.

    Raises:
        ValueNotEncodable: a part would not decode to an equal value; `path` points to that part.
        ValueTooLarge: the value exceeds the size limit; `path` points to its largest part.
    """
    document = codec.encode(value, where=where, may_pickle=may_pickle, parts=True)
    try:
        return store_value(store, home, document, type or value.__class__.__name__)
    except ValueTooLarge as error:
        path, size = codec.largest(value, where)
        raise ValueTooLarge(
            f"{error.message.rstrip('.')}; most of it, {size:,} bytes, is {path}",
            path=path,
            help=error.help,
        ) from None


def digest_of(document: Any) -> str:
    """Return the digest that `store_value` gives a document, and store nothing."""
    return canonical.sha256(_written(document, []))


def store_value(store: Store, home: str, document: Any, type: str = "") -> StoredValue:
    """Store a codec document for the owner with the key prefix `home`, which need not exist yet.

    The parts of the document are written first, a few chunks at a time.

    Args:
        document: JSON, as `kitaru.runtime.codec.encode` returns it.
        type: the displayed type of the value.

    Raises:
        ValueTooLarge: the value exceeds the size limit.
        ValueNotEncodable: the document is not JSON, or its value changed meanwhile.
    """
    parts: list[Part] = []
    data = _written(document, parts)
    outside = sum(part.size for part in parts)
    _check_size(len(data), outside)
    digest = canonical.sha256(data)
    for part in parts:
        _put_part(store, home, part)
    value = StoredValue(size=len(data) + outside, outside=outside, digest=digest, type=type)
    if len(data) <= INLINE_VALUE_BYTES:
        return replace(value, data=json.loads(data) if parts else document)
    _put_blob(store, home, digest, data)
    return replace(value, blob=digest)


def load_value(store: Store, home: str, value: StoredValue) -> Any:
    """Return the document of a stored value after verifying its digest.

    Parts of the document load and verify their chunks on access.

    Raises:
        RecordCorrupt: the blob is missing or differs from the stored value.
    """
    home = value.home or home
    if value.blob is None and not value.outside:
        _check_digest(canonical.dumps(value.data), value.digest, home)
        return value.data
    if value.blob is None:
        data = canonical.dumps(value.data)
    else:
        key = keys.blob(home, value.blob)
        data = store.get(key) or b""
    _check_digest(data, value.digest, home)
    chunks = partial(_chunks, store, home)
    hook = (lambda each: referred(each, chunks)) if value.outside else None
    try:
        return json.loads(data, object_hook=hook)
    except (ValueError, RecursionError) as error:
        raise _damaged(
            f"{keys.blob(home, value.digest)}, or the record that refers to it,"
        ) from error


def copy_value(store: Store, source: str, target: str, value: StoredValue) -> StoredValue:
    """Copy a value of the owner at `source` for the owner at `target`; return the copy."""
    if source == target or not _lies_apart(value):
        return value
    return store_value(store, target, load_value(store, source, value), value.type)


def shared(value: StoredValue, home: str) -> StoredValue:
    """Return a value of the owner at `home` in the form that other owners' records refer to."""
    return replace(value, home=home) if _lies_apart(value) and not value.home else value


def _lies_apart(value: StoredValue) -> bool:
    return value.blob is not None or value.outside > 0


def _written(document: Any, parts: list[Part]) -> bytes:
    def note(part: Any) -> Any:
        told = reference(part)
        parts.append(part)
        return told

    try:
        return canonical.dumps(document, note)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueNotEncodable(f"A value cannot be written as JSON: {error}.") from error


def _check_size(document: int, outside: int) -> None:
    if document > MAX_DOCUMENT_BYTES:
        size, most, what = document, MAX_DOCUMENT_BYTES, " as JSON"
    elif document + outside > MAX_VALUE_BYTES:
        size, most, what = document + outside, MAX_VALUE_BYTES, ""
    else:
        return
    raise ValueTooLarge(
        f"A value has {size:,} bytes{what}; at most {most:,} are allowed.",
        help="Write it to a file or bucket of your own and return its name instead.",
    )


def _put_blob(store: Store, home: str, digest: str, data: bytes) -> None:
    key = keys.blob(home, digest)
    if create_or_read(store, key, data) != data:
        raise _damaged(key)


def _put_part(store: Store, home: str, part: Part) -> None:
    chunks = zip(part.hashes, part.chunks(), strict=True)
    while group := list(islice(chunks, _AT_ONCE)):
        _put_chunks(store, home, group)


def _put_chunks(store: Store, home: str, group: list[tuple[str, Chunk]]) -> None:
    objects = {keys.blob(home, hash): _unchanged(hash, chunk) for hash, chunk in group}
    created = store.create_all(list(objects.items()))
    for (key, data), new in zip(objects.items(), created, strict=True):
        if not new and create_or_read(store, key, data) != data:
            raise _damaged(key)


def _unchanged(hash: str, chunk: Chunk) -> bytes:
    data = bytes(chunk)
    if hashlib.sha256(data).hexdigest() != hash:
        raise ValueNotEncodable(
            "A value changed while it was recorded.",
            help="Another thread works on it: wait for it before returning the value.",
        )
    return data


def _chunks(store: Store, home: str, hashes: tuple[str, ...]) -> Iterator[bytes]:
    for start in range(0, len(hashes), _AT_ONCE):
        some = hashes[start : start + _AT_ONCE]
        places = [keys.blob(home, hash) for hash in some]
        for hash, key, data in zip(some, places, store.get_all(places), strict=True):
            if data is None or hashlib.sha256(data).hexdigest() != hash:
                raise _damaged(key)
            yield data


def _check_digest(data: bytes, digest: str, home: str) -> None:
    if canonical.sha256(data) != digest:
        raise _damaged(f"{keys.blob(home, digest)}, or the record that holds it,")


def _damaged(what: str) -> RecordCorrupt:
    return RecordCorrupt(
        f"The stored object {what} is missing or damaged.",
        next_step="restore",
    )
