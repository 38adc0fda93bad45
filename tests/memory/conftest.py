"""Fixtures of the memory tests: a configured store for each test, and a memory in another."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from kitaru.runtime.memory.memories import Memory
from kitaru.runtime.memory.scopes import MemoryScope
from kitaru.stores import Store
from kitaru.stores.memory import MemoryStore

SCOPE = MemoryScope("flow", "f")
Operations = Callable[[], Memory]


@pytest.fixture(autouse=True)
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put every test's executions and memory into a separate store."""
    url = f"sqlite:{tmp_path / 'kitaru.db'}"
    monkeypatch.setenv("KITARU_STORE", url)
    monkeypatch.chdir(tmp_path)
    return url


def operations_on(store: Store) -> Operations:
    """Return a function that opens the memory for the next operation, each a separate writer."""
    numbers = count(1)
    return lambda: Memory(store, SCOPE, f"test/{next(numbers)}")


@pytest.fixture
def operation() -> Operations:
    """Return the next operation on a memory in an empty store."""
    return operations_on(MemoryStore())
