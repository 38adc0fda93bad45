"""The interface of a store. Its only requirement: create a whole object if absent."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol, TypeVar

from kitaru.errors import UsageError
from kitaru.wire.limits import MAX_KEY_CHARACTERS

T = TypeVar("T")

# Keys that are listed at once.
_PAGE = 10_000

_KEY = re.compile(rf"(?!/)(?!.*//)[A-Za-z0-9_./-]{{1,{MAX_KEY_CHARACTERS}}}(?<!/)", re.ASCII)


class Store(Protocol):
    """A place for immutable objects, safe for threads and processes to share.

    Keys are ASCII with `/` between segments. Whatever is created stays as it is until deleted.
    Every method may raise `StoreUnavailable` (no answer, after retries; the same call may be made
    again), `StoreDenied` or `StoreUnsuitable`. None of these ever means "absent".

    `remote` means that every request is a journey: one is worth sparing, and several made together
    take no longer than one.
    """

    url: str
    remote: bool

    def create(self, key: str, value: bytes) -> bool:
        """Return True when these bytes are durable now, False when something is there already."""
        ...

    def create_all(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        """Create different keys, each atomic by itself: one commit where the store can, else all
        at once, in no order."""
        ...

    def get(self, key: str) -> bytes | None:
        """Return the object, or None if it certainly does not exist."""
        ...

    def get_all(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return what `get` would for each key, at once where that is faster."""
        ...

    def concurrently(self, first: Callable[[], T], *others: Callable[[], object]) -> T:
        """Use this store in several ways, at once where it is remote, else in order.

        Returns what `first` returns, when all are done; raises what one of them raised. None of
        them may call this itself.
        """
        ...

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[str]:
        """Return the keys that start with `prefix` and come after `after`, in byte order.

        `after` and `limit` only count on keys whose segments have no character below `/` where two
        of them differ: some servers of S3 walk folders, where `a/1` comes before `a-1`.
        """
        ...

    def delete(self, *keys: str) -> None:
        """Remove objects, in any order. Missing ones are no error. For garbage and hints only."""
        ...

    def inspect(self, prefix: str) -> None:
        """Raise RecordCorrupt where what is absent under `prefix` may be lost.

        For a process that is about to run what it does not find there. A store whose service
        answers for absence does nothing.
        """
        ...

    def flush(self) -> None:
        """Note that this process may write nothing for a while: an execution waits, or has ended.

        Everything is durable already; a store that keeps it in several files makes one complete.
        """
        ...

    def close(self) -> None:
        """Give up connections; the store is not used afterwards."""
        ...


def check_key(key: str) -> str:
    """Return `key` when every kind of store can hold it; raise UsageError otherwise."""
    if _KEY.fullmatch(key) and not {".", ".."} & set(key.split("/")):
        return key
    raise UsageError(f"{key!a} cannot be a key in a store.")


def in_order(first: Callable[[], T], *others: Callable[[], object]) -> T:
    """Do one after the other and return what `first` returns."""
    result = first()
    for other in others:
        other()
    return result


def upper_bound(prefix: str) -> str:
    """Return the smallest text above all keys that start with `prefix`."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else "\x7f"


def listed(store: Store, prefix: str) -> Iterator[list[str]]:
    """Yield the keys of a prefix in byte order, some at a time where listing is no journey."""
    if store.remote:
        yield store.list(prefix)
        return
    after = ""
    while page := store.list(prefix, after=after, limit=_PAGE):
        yield page
        after = page[-1]


def existing(store: Store, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the objects of `keys` that exist, with their keys; a few dozen are read at a time.

    What was removed since it was listed, by a collection of garbage, is left out.
    """
    pending = iter(keys)
    while some := list(islice(pending, 64)):
        for key, data in zip(some, store.get_all(some), strict=True):
            if data is not None:
                yield key, data
