"""Write records: create one, or return the existing one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TypeVar

from kitaru.errors import RecordCorrupt
from kitaru.runtime.journal.blobs import create_or_read
from kitaru.stores.base import Store
from kitaru.wire.envelope import decode, encode, reread
from kitaru.wire.records import Record

_AT_ONCE = 256

R = TypeVar("R", bound=Record)


class RecordStore:
    """Records in a store, written with a token that makes the bytes of each writer unique."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.writer = os.urandom(8).hex()

    def read(self, kind: type[R], key: str) -> R | None:
        """Return the verified record at `key`, or None if it certainly does not exist."""
        data = self.store.get(key)
        return None if data is None else self.verify(kind, key, data)

    def verify(self, kind: type[R], key: str, data: bytes) -> R:
        """Verify the bytes at `key` and return the record in them."""
        return _expect(kind, key, decode(key, data))

    def read_all(self, kind: type[R], keys: Sequence[str]) -> list[R]:
        """Return the existing records at these keys."""
        found = zip(keys, self.store.get_all(keys), strict=True)
        return [self.verify(kind, key, data) for key, data in found if data is not None]

    def write(self, key: str, record: R, *also: tuple[str, bytes]) -> R:
        """Write a record unless the key exists; return the stored record.

        `also` are objects to create in the same commit if the store supports it.
        """
        return self.put_with_bytes(key, record, *also)[0]

    def put_with_bytes(self, key: str, record: R, *also: tuple[str, bytes]) -> tuple[R, bytes]:
        """Do what `write` does; also return the bytes of the stored record."""
        data = self.encode(key, record)
        held = self._create_or_get(key, data, also)
        # The writer's own bytes need no verification. They are still decoded, since JSON has fewer
        # types.
        found = _expect(type(record), key, reread(held) if held is data else decode(key, held))
        return found, held

    def write_all(self, records: Iterable[tuple[str, Record]]) -> None:
        """Create records, by key, in few commits, with few records in memory at once.

        Raises:
            RecordCorrupt: one of the keys already contains a different object.
        """
        encoded = ((key, self.encode(key, record)) for key, record in records)
        while batch := list(islice(encoded, _AT_ONCE)):
            created = self.store.create_all(batch)
            for (key, data), new in zip(batch, created, strict=True):
                if not new and create_or_read(self.store, key, data) != data:
                    raise RecordCorrupt(f"The stored object {key} was written by somebody else.")

    def try_create(self, key: str, record: R, *also: tuple[str, bytes]) -> bool:
        """Create `record` at `key`; return False if another writer's record already exists."""
        data = self.encode(key, record)
        return self._create_or_get(key, data, also) == data

    def encode(self, key: str, record: Record) -> bytes:
        """Return the bytes that this writer stores at `key`."""
        return encode(key, self.writer, record)

    def _create_or_get(self, key: str, data: bytes, also: Sequence[tuple[str, bytes]]) -> bytes:
        if also and self.store.create_all([(key, data), *also])[0]:
            return data
        return create_or_read(self.store, key, data)


def _expect(kind: type[R], key: str, record: Record) -> R:
    if not isinstance(record, kind):
        raise RecordCorrupt(f"The stored object {key} holds a {type(record).__name__}.")
    return record
