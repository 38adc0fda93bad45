"""Hints are written even if a bucket reports at first that they exist although they do not."""

from __future__ import annotations

import pytest

from kitaru.runtime.executions.gc import _mark_and_remove
from kitaru.runtime.journal import rounds
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.launches import record_launch
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.stores.memory import MemoryStore
from kitaru.wire import keys
from kitaru.wire.records import LaunchRecord, WaitAnswer, WaitRequest
from kitaru.wire.structs import replace

from .promises import AT, EXEC, RECORD


class LosesRaces(MemoryStore):
    """S3 reports "exists" for a lost race even if the other write then fails."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: set[str] = set()

    def create(self, key: str, value: bytes) -> bool:
        if key in self.lost:
            return super().create(key, value)
        self.lost.add(key)
        return False


@pytest.fixture
def store() -> LosesRaces:
    return LosesRaces()


def test_the_hint_of_a_launch(store: LosesRaces) -> None:
    record_launch(store, EXEC, LaunchRecord("f", {}))
    assert store.list(keys.due_launch(EXEC)) and store.list(keys.launch(EXEC))


def test_the_hint_of_a_closed_round(store: LosesRaces) -> None:
    rounds.close(RecordStore(store), EXEC, 1, "parked", by="test")
    assert store.list(keys.due_closed(EXEC, 1))


def test_the_hint_of_a_round_in_progress(store: LosesRaces) -> None:
    rounds.take_next(RecordStore(store), EXEC, 0, "run-1", target="local")
    assert store.list(keys.open_rounds(EXEC))


def test_the_hints_of_a_wait_and_its_answer(store: LosesRaces) -> None:
    journal = Journal(store, replace(RECORD, mode="deployed"))
    journal.request_wait(WaitRequest("ok", "ok?", {}, asked_at=AT))
    assert store.list(keys.waiting(AT, EXEC, "ok", 1))
    journal.answer(WaitAnswer("ok", "value", True, AT))
    assert store.list(keys.due_answer(EXEC, "ok", 1))
    assert not store.list(keys.WAITING)


def test_the_marker_of_a_removal(store: LosesRaces) -> None:
    _mark_and_remove(store, EXEC, set())
    assert store.list(keys.garbage(EXEC))
