"""The interface of a store. Its one requirement: atomically create an object if absent."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from typing import Protocol, TypeVar, runtime_checkable

from kitaru.errors import UsageError
from kitaru.wire.limits import MAX_KEY_CHARACTERS

T = TypeVar("T")

_KEY = re.compile(rf"(?!/)(?!.*//)[A-Za-z0-9_./-]{{1,{MAX_KEY_CHARACTERS}}}(?<!/)", re.ASCII)


class Store(Protocol):
    """A store of immutable objects, shared safely by threads and processes.

    Keys are ASCII with `/` between segments. A created object does not change until it is deleted.
    Every method may raise `StoreUnavailable` (no response after retries; the same call may be
    repeated), `StoreDenied` or `StoreUnsuitable`. None of these errors means "absent".

    `remote` means that every request is a network round trip. Avoiding a request saves time, and
    concurrent requests take no longer than one request.
    """

    url: str
    remote: bool

    def create(self, key: str, value: bytes) -> bool:
        """Create the object; return False if the key already exists. The bytes are then durable."""
        ...

    def create_all(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        """Create several objects with different keys, each of them atomically.

        The store uses one commit if it can. Otherwise it creates them concurrently, in any order.
        """
        ...

    def get(self, key: str) -> bytes | None:
        """Return the object, or None if it certainly does not exist."""
        ...

    def get_all(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the result of `get` for each key, read concurrently if that is faster."""
        ...

    def concurrently(self, first: Callable[[], T], *others: Callable[[], object]) -> T:
        """Run several uses of this store: concurrently if it is remote, else in order.

        Return the value of `first` when all are done, and raise an exception that one of them
        raised. None of them may call this method.
        """
        ...

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[str]:
        """Return the keys that start with `prefix` and sort after `after`, in byte order.

        `after` and `limit` are reliable only if no segment contains a character below `/` at the
        first difference between two keys. Some S3 servers walk folders, in which `a/1` sorts before
        `a-1`.
        """
        ...

    def scan(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Yield the objects whose keys start with `prefix`, in byte order, few in memory at once.

        Objects created or deleted meanwhile may be left out.
        """
        ...

    def delete(self, *keys: str) -> None:
        """Delete objects in any order, for garbage and hints only; missing ones are no error."""
        ...

    def inspect(self, prefix: str) -> None:
        """Raise RecordCorrupt if objects that are absent under `prefix` may have been lost.

        For a process that is about to run the calls whose records it does not find. Stores whose
        service guarantees absence do nothing.
        """
        ...

    def flush(self) -> None:
        """Prepare for a pause in writing: an execution waits or has ended.

        All objects are already durable. A store made of several files makes its main file complete.
        """
        ...

    def close(self) -> None:
        """Close the connections. The store is not used afterwards."""
        ...


@runtime_checkable
class Sharing(Protocol):
    """A store that gives people a file without credentials of the store."""

    def share(self, key: str, value: bytes, name: str, lifetime: timedelta) -> str | None:
        """Create the object if it is absent, and return a URL from which anybody can read it.

        Browsers save it as a file called `name`, and never show it as a page. The URL expires after
        `lifetime`. Return None if the credentials of the store cannot sign.
        """
        ...


def check_key(key: str) -> str:
    """Return `key` if every kind of store accepts it; raise UsageError otherwise."""
    if _KEY.fullmatch(key) and not {".", ".."} & set(key.split("/")):
        return key
    raise UsageError(f"{key!a} cannot be a key in a store.")


def in_order(first: Callable[[], T], *others: Callable[[], object]) -> T:
    """Run the functions one after the other and return the value of `first`."""
    result = first()
    for other in others:
        other()
    return result


def upper_bound(prefix: str) -> str:
    """Return the smallest string above all keys that start with `prefix`."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else "\x7f"


def scan_listed(store: Store, prefix: str) -> Iterator[tuple[str, bytes]]:
    """Do what `scan` does, for a store that reads objects by their keys."""
    return existing(store, store.list(prefix))


def existing(store: Store, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the existing objects of `keys` with their keys, reading a few dozen at a time.

    Objects removed by garbage collection since they were listed are left out.
    """
    pending = iter(keys)
    while some := list(islice(pending, 64)):
        for key, data in zip(some, store.get_all(some), strict=True):
            if data is not None:
                yield key, data
