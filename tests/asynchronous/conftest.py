"""Fixtures of the tests of async flows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kitaru import Handle
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store
from kitaru.wire.records import InvocationRecord


class Runs:
    """Reads what executions recorded."""

    def __init__(self, store: str) -> None:
        self.store = store

    def journal(self, handle: Handle[Any]) -> Journal:
        return Journal.open(open_store(self.store), handle.exec_id)

    def records(self, handle: Handle[Any]) -> dict[str, InvocationRecord]:
        return {one.id: one for one in self.journal(handle).invocations()}


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Put the executions of a test into a store of its own."""
    url = f"sqlite:{tmp_path / 'store' / 'kitaru.db'}"
    monkeypatch.setenv("KITARU_STORE", url)
    monkeypatch.chdir(tmp_path)
    return Runs(url)
