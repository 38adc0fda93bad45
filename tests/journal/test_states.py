"""The state of an execution where lists are old, states are many, and processes are gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kitaru.runtime.journal import states
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.stores import open_store
from kitaru.stores.memory import MemoryStore
from kitaru.wire import keys
from kitaru.wire.records import EndRecord, StateRecord, Status
from kitaru.wire.structs import replace
from kitaru.wire.times import now

from .harness import EXEC, execution

CHANGES: list[Status] = ["waiting", "running", "failed", "running", "waiting"]


@pytest.mark.parametrize("listed", range(len(CHANGES) + 2))
def test_states_behind_an_old_list_are_read_by_their_keys(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, listed: int
) -> None:
    for status in CHANGES:
        journal.set_state(status)
    old = journal.store.list(keys.states(EXEC))[:listed]
    monkeypatch.setattr(journal.store, "list", lambda prefix, **more: old)
    state = journal.state()
    assert (state.number, state.status) == (len(CHANGES) + 1, "waiting")


def test_more_states_than_python_has_small_numbers(journal: Journal) -> None:
    for number in range(300):
        journal.set_state("waiting" if number % 2 == 0 else "running")
    assert journal.state().number == 301


def test_a_state_is_current_until_the_next_one_or_the_end(journal: Journal) -> None:
    record_store = RecordStore(journal.store)
    journal.set_state("waiting")
    current = states.still(record_store, EXEC, 2)
    assert current is not None and (current.number, current.status) == (2, "waiting")
    assert states.still(record_store, EXEC, 1) is None, "there is a later one"
    assert states.still(record_store, EXEC, 3) is None, "it does not exist yet"
    journal.set_state("running")
    assert states.still(record_store, EXEC, 2) is None, "there is a later one"
    journal.finish(EndRecord("cancelled", None, now()))
    assert states.still(record_store, EXEC, 3) is None, "it ended"


def test_only_a_local_execution_is_marked_with_its_process(store: MemoryStore) -> None:
    record = execution(store)
    ((place, _),) = states.mark(store, record)
    assert place.startswith(keys.processes(EXEC))
    assert states.mark(store, replace(record, mode="vertex")) == []


def test_only_running_is_shown_as_interrupted(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'k.db'}"
    child = os.fork()
    if child == 0:
        store = open_store(url)
        Journal.create(store, execution(store))
        store.close()
        os._exit(0)
    assert os.waitpid(child, 0) == (child, 0)
    store = open_store(url)
    journal = Journal.open(store, EXEC)

    def shown(status: Status) -> str:
        state = StateRecord(1, status, "")
        return states.shown_status(store, EXEC, journal.execution.started_at, state)

    assert shown("running") == "interrupted"
    others: list[Status] = ["waiting", "failed", "completed", "cancelled"]
    assert [shown(status) for status in others] == others
    # What the process recorded after the status was read is newer.
    for status in ("waiting", "failed"):
        journal.set_state(status)
        assert shown("running") == status
    store.close()
