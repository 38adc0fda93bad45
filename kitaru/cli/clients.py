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
    """Return the client of a store, which is made when it does not exist.

    Args:
        store: the `--store` that the user passed; None for the configured store.
    """
    from kitaru.client import KitaruClient

    return KitaruClient(url_of(store))


def reader_of(store: str | None) -> KitaruClient:
    """Return the client of a store for a command that only reads: it never makes a file.

    A store that does not exist reads as an empty one, under the absolute path where it would be.
    """
    from kitaru.client import KitaruClient

    url = url_of(store)
    place = url.removeprefix("sqlite:")
    if place != url and place and _could_be_made(path := sqlite_path(place).absolute()):
        return KitaruClient(_MissingStore(f"sqlite:{path}"))
    return KitaruClient(url)


def _could_be_made(path: Path) -> bool:
    """Say whether nothing is at `path`, and something could be: a file in its way is an error."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size > 0:
        # Its database was moved away: to open it tells what to do.
        return False
    nearest = next((each for each in (path, *path.parents) if each.exists()), path)
    return nearest != path and nearest.is_dir()


def url_of(store: str | None) -> str:
    """Return the URL of the store that is meant."""
    return str(setting("store", argument=store).value)


class _MissingStore(MemoryStore):
    """A SQLite store whose file does not exist: it holds nothing and takes nothing."""

    def create(self, key: str, value: bytes) -> NoReturn:
        raise StoreUnavailable(f"There is no store at {self.url}.")

    def create_all(self, objects: Sequence[tuple[str, bytes]]) -> NoReturn:
        raise StoreUnavailable(f"There is no store at {self.url}.")
