"""Mark which store is a backup, and whether it is complete.

Each backup into a bucket writes `backup/<n>/begun` before anything else, and `backup/<n>/complete`
after everything was read back. Numbers are never used twice, so the highest one counts.
"""

from __future__ import annotations

from kitaru.stores.base import Store
from kitaru.wire import keys


def begin_backup(store: Store) -> int:
    """Note that objects are about to be copied into a store; return the number of this backup."""
    number = 1 + max((_number(key) for key in store.list(keys.BACKUP)), default=0)
    while not store.create(keys.backup(number, "begun"), b""):
        number += 1
    return number


def complete_backup(store: Store, number: int) -> None:
    """Note that all objects were copied, and read back."""
    store.create(keys.backup(number, "complete"), b"")


def is_backup(store: Store) -> bool:
    """Tell whether anything was ever copied into a store."""
    return bool(store.list(keys.BACKUP))


def incomplete_backup(store: Store) -> str | None:
    """Return the mark of the newest backup if that is not complete, else None."""
    found = store.list(keys.BACKUP)
    newest = max(map(_number, found), default=0)
    complete = not newest or keys.backup(newest, "complete") in found
    return None if complete else keys.backup(newest, "begun")


def _number(key: str) -> int:
    return int(key.split("/")[1])
