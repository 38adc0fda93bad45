from __future__ import annotations

import pytest

from kitaru.runtime.journal.journal import Journal
from kitaru.stores.memory import MemoryStore

from .harness import execution


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def journal(store: MemoryStore) -> Journal:
    return Journal.create(store, execution(store))
