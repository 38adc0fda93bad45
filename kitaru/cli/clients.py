"""Decides which store a command works on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitaru.config import setting

if TYPE_CHECKING:
    from kitaru.client import KitaruClient


def client_of(store: str | None) -> KitaruClient:
    """Return the client of the store that is meant; `store` is the `--store` the user gave."""
    from kitaru.client import KitaruClient

    return KitaruClient(url_of(store))


def url_of(store: str | None) -> str:
    """Return the URL of the store that is meant."""
    return str(setting("store", argument=store).value)
