"""Mark a store as a backup, complete or incomplete.

Each backup into a bucket writes `backup/<n>/begun` first, and `backup/<n>/complete` after all
objects were read back. Numbers are never reused, so the highest number is the newest backup.
"""

from __future__ import annotations

from kitaru.stores.base import Store
from kitaru.wire import keys


def begin_backup(store: Store) -> int:
    """Record that a backup into a store starts; return the number of this backup."""
    number = 1 + max((_number(key) for key in store.list(keys.BACKUP)), default=0)
    while not store.create(keys.backup(number, "begun"), b""):
        number += 1
    return number


def complete_backup(store: Store, number: int) -> None:
    """Record that all objects were copied and read back."""
    store.create(keys.backup(number, "complete"), b"")


def is_backup(store: Store) -> bool:
    """Return whether any backup into a store was ever started."""
    return bool(store.list(keys.BACKUP))


def incomplete_backup(store: Store) -> str | None:
    """Return the mark of the newest backup if it is incomplete, else None."""
    found = store.list(keys.BACKUP)
    newest = max(map(_number, found), default=0)
    complete = not newest or keys.backup(newest, "complete") in found
    return None if complete else keys.backup(newest, "begun")


def _number(key: str) -> int:
    return int(key.split("/")[1])
