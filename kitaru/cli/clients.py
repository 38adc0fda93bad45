"""Open the store that a command works on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from kitaru.config import setting
from kitaru.errors import StoreUnavailable
from kitaru.store_urls import sqlite_path
from kitaru.stores.memory import MemoryStore

if TYPE_CHECKING:
    from kitaru.client import KitaruClient


def client_of(store: str | None) -> KitaruClient:
    """Return the client of a store, which is created if it does not exist.

    Args:
        store: the `--store` that the user passed; None for the configured store.
    """
    from kitaru.client import KitaruClient

    return KitaruClient(url_of(store))


def reader_of(store: str | None) -> KitaruClient:
    """Return the client of a store for a command that only reads. It never creates a file.

    A missing store reads as empty. Its URL contains the absolute path where it would be.
    """
    from kitaru.client import KitaruClient

    url = url_of(store)
    place = url.removeprefix("sqlite:")
    if place != url and place and _could_be_made(path := sqlite_path(place).absolute()):
        return KitaruClient(_MissingStore(f"sqlite:{path}"))
    return KitaruClient(url)


def _could_be_made(path: Path) -> bool:
    """Return whether `path` does not exist but can be created. A file in its way is an error."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size > 0:
        # The database was moved away. Opening it raises an error with the remedy.
        return False
    nearest = next((each for each in (path, *path.parents) if each.exists()), path)
    return nearest != path and nearest.is_dir()


def url_of(store: str | None) -> str:
    """Return the store URL that applies to a command."""
    return str(setting("store", argument=store).value)


class _MissingStore(MemoryStore):
    """A SQLite store whose file does not exist. It is empty and rejects writes."""

    def create(self, key: str, value: bytes) -> NoReturn:
        raise StoreUnavailable(f"There is no store at {self.url}.")

    def create_all(self, objects: Sequence[tuple[str, bytes]]) -> NoReturn:
        raise StoreUnavailable(f"There is no store at {self.url}.")
