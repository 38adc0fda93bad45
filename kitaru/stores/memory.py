"""A store in the memory of this process, for tests, with the behaviour of the other stores."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from kitaru.stores.base import check_key, in_order, scan_listed, upper_bound

T = TypeVar("T")

_named: dict[str, MemoryStore] = {}
_naming = threading.Lock()


class MemoryStore:
    """Objects in a dictionary. They are lost when the process ends."""

    remote = False

    def __init__(self, url: str = "memory:") -> None:
        self.url = url
        self._objects: dict[str, bytes] = {}
        self._keys: list[str] = []
        self._lock = threading.Lock()

    def create(self, key: str, value: bytes) -> bool:
        check_key(key)
        with self._lock:
            if key in self._objects:
                return False
            self._objects[key] = bytes(value)
            insort(self._keys, key)
            return True

    def create_all(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        return [self.create(key, value) for key, value in objects]

    def get(self, key: str) -> bytes | None:
        with self._lock:
            return self._objects.get(key)

    def get_all(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def concurrently(self, first: Callable[[], T], *others: Callable[[], object]) -> T:
        return in_order(first, *others)

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[str]:
        with self._lock:
            start = max(bisect_left(self._keys, prefix), bisect_right(self._keys, after))
            stop = bisect_left(self._keys, upper_bound(prefix))
            found = self._keys[start:stop]
        return found if limit is None else found[:limit]

    def scan(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        return scan_listed(self, prefix)

    def delete(self, *keys: str) -> None:
        with self._lock:
            for key in keys:
                if self._objects.pop(key, None) is not None:
                    self._keys.remove(key)

    def inspect(self, prefix: str) -> None:
        """Do nothing: memory loses no objects."""

    def flush(self) -> None:
        """Do nothing: there is only one copy of the data."""

    def close(self) -> None:
        """Keep the objects: another `open_store` with the same name sees them."""


def named(url: str) -> MemoryStore:
    """Return this process's store for `url`, creating it on first use."""
    with _naming:
        return _named.setdefault(url, MemoryStore(url))


def forget(url: str) -> None:
    """Delete this process's store for `url`."""
    with _naming:
        _named.pop(url, None)
