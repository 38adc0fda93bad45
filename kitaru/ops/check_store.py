"""Check that a store gives the guarantees on which durability depends."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kitaru.errors import StoreUnsuitable
from kitaru.ops.verify import check_structure

if TYPE_CHECKING:
    from kitaru.stores.base import Store


@dataclass(frozen=True, slots=True)
class Kept:
    """A verified guarantee of a store, and the duration of its check."""

    name: str
    milliseconds: float


def check_store(store: Store) -> list[Kept]:
    """Write one small object, check the guarantees of a store with it, and delete it.

    Raises:
        StoreUnsuitable: the store does not give one of the guarantees.
        RecordCorrupt: its file is damaged.
        EnvironmentFailure: the store cannot be reached.

    Example:
        [promise.name for promise in check_store(store)]
    """
    key = f"probe/{secrets.token_hex(8)}"
    value, other = secrets.token_bytes(64), secrets.token_bytes(64)
    promises: list[tuple[str, Callable[[], bool]]] = [
        ("an absent object is absent", lambda: store.get(key) is None),
        ("a create creates", lambda: store.create(key, value)),
        ("a second create is refused", lambda: not store.create(key, other)),
        ("the first bytes stay", lambda: store.get(key) == value),
        ("a list finds it", lambda: store.list(key) == [key]),
        ("no object is damaged", lambda: _is_sound(store)),
    ]
    try:
        return [_tried(store, name, promise) for name, promise in promises]
    finally:
        store.delete(key)


def _is_sound(store: Store) -> bool:
    check_structure(store)
    return True


def _tried(store: Store, name: str, promise: Callable[[], bool]) -> Kept:
    start = time.perf_counter()
    is_kept = promise()
    milliseconds = round((time.perf_counter() - start) * 1000, 2)
    if not is_kept:
        raise StoreUnsuitable(f"{store.url} does not keep a promise: {name}")
    return Kept(name, milliseconds)
