"""A store in this process's memory, for tests. It behaves like the others."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence
from typing import TypeVar

from kitaru.stores.base import check_key, in_order, upper_bound

T = TypeVar("T")

_named: dict[str, MemoryStore] = {}
_naming = threading.Lock()


class MemoryStore:
    """Objects in a dictionary; gone when the process is."""

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

    def delete(self, *keys: str) -> None:
        with self._lock:
            for key in keys:
                if self._objects.pop(key, None) is not None:
                    self._keys.remove(key)

    def inspect(self, prefix: str) -> None:
        """Do nothing: what is absent is absent."""

    def flush(self) -> None:
        """Do nothing: there is one place."""

    def close(self) -> None:
        """Keep everything: another `open_store` of the same name sees it."""


def named(url: str) -> MemoryStore:
    """Return the one store of this process that is called `url`."""
    with _naming:
        return _named.setdefault(url, MemoryStore(url))
