"""Status of an execution: its end if there is one, otherwise its newest state record."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from kitaru.runtime.journal import news, processes, summaries
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.stores.base import Store
from kitaru.wire import keys
from kitaru.wire.records import (
    EndRecord,
    ErrorInfo,
    ExecutionRecord,
    StateRecord,
    Status,
    Summary,
)
from kitaru.wire.times import now

ShownStatus = Status | Literal["interrupted"]
Summarise = Callable[[StateRecord], Summary]
FINAL: tuple[Status, ...] = ("completed", "cancelled")
# The execution continues after an answer, or at a time.
PAUSED: tuple[Status, ...] = ("waiting", "sleeping")


def read_end(record_store: RecordStore, exec_id: str) -> EndRecord | None:
    """Return the final end of the execution, or None."""
    return record_store.read(EndRecord, keys.end(exec_id))


def read_state(record_store: RecordStore, exec_id: str, started_at: str) -> StateRecord:
    """Return the execution's state; without a state record, it is `running` with number 0."""
    newest = _newest(record_store, exec_id, started_at)
    end = read_end(record_store, exec_id)
    # A process that outlived its successor may have added a state after the end.
    return StateRecord(newest.number, end.status, end.at) if end is not None else newest


def still(record_store: RecordStore, exec_id: str, number: int) -> StateRecord | None:
    """Return the state of that number if it is the newest and there is no end; in one read."""
    places = keys.state(exec_id, number), keys.state(exec_id, number + 1), keys.end(exec_id)
    state, later, end = record_store.store.get_all(places)
    if state is None or later is not None or end is not None:
        return None
    return record_store.verify(StateRecord, places[0], state)


def write_state(
    record_store: RecordStore,
    execution: ExecutionRecord,
    status: Status,
    error: ErrorInfo | None = None,
    *,
    summarise: Summarise,
) -> None:
    """Add a state, its listing hint and its summary, unless the newest state is equal."""
    newest = _newest(record_store, execution.exec_id, execution.started_at)
    # A list may be stale. The record with the next number shows where to continue.
    while (newest.status, newest.error) != (status, error):
        state = StateRecord(newest.number + 1, status, now(), error)
        newest = _add(record_store, execution, state, summarise)


def write_again(
    record_store: RecordStore, execution: ExecutionRecord, summarise: Summarise
) -> None:
    """Add a state equal to the newest one if the execution runs, so that it has a new summary."""
    newest = _newest(record_store, execution.exec_id, execution.started_at)
    if newest.status == "running":
        state = StateRecord(newest.number + 1, "running", now(), newest.error)
        _add(record_store, execution, state, summarise)


def write_first_state(record_store: RecordStore, execution: ExecutionRecord) -> None:
    """Write state 1, `running`, its hint and its summary, unless another process has."""
    ensure_listed(record_store, execution, *mark(record_store.store, execution))


def ensure_listed(
    record_store: RecordStore, execution: ExecutionRecord, *also: tuple[str, bytes]
) -> None:
    """Write state 1 with its hint if the first process was killed before it wrote them."""
    summarise = partial(summaries.summarise, record_store.store, execution)
    state = StateRecord(1, "running", execution.started_at)
    _add(record_store, execution, state, summarise, *also)


def mark(store: Store, execution: ExecutionRecord) -> list[tuple[str, bytes]]:
    """Return the objects that mark this process as running an execution: one, or none."""
    made = processes.mark(store, execution.exec_id) if execution.mode == "local" else None
    return [made] if made else []


def shown_status(store: Store, exec_id: str, started_at: str, state: StateRecord) -> ShownStatus:
    """Return the displayed status: `interrupted` if `running` is certainly out of date.

    Args:
        state: the recorded state that was just read.
    """
    if state.status != "running":
        return state.status
    if state.error is not None:
        # Its process recorded why it stopped.
        return "interrupted"
    if not processes.all_gone(store, exec_id):
        return state.status
    # The process may have recorded its end after `state` was read and before the marks were.
    now_recorded = read_state(RecordStore(store), exec_id, started_at).status
    return "interrupted" if now_recorded == "running" else now_recorded


def _add(
    record_store: RecordStore,
    execution: ExecutionRecord,
    state: StateRecord,
    summarise: Summarise,
    *also: tuple[str, bytes],
) -> StateRecord:
    exec_id, number = execution.exec_id, state.number
    if state.status == "failed" and execution.mode != "dry-run":
        news.announce(record_store.store, keys.news_failed(exec_id, number))
    hint = keys.index(execution.started_at, exec_id, number, state.status, execution.flow), b""
    place = keys.summary(exec_id, number)
    summary = place, record_store.encode(place, summarise(state))
    return record_store.write(keys.state(exec_id, number), state, hint, summary, *also)


def _newest(record_store: RecordStore, exec_id: str, started_at: str) -> StateRecord:
    listed = record_store.store.list(keys.states(exec_id))
    newest = StateRecord(keys.state_number(listed[-1]) if listed else 0, "running", started_at)
    # A list may be stale. Read the next numbers by their exact keys until one is missing.
    while found := _read(record_store, exec_id, newest.number):
        if found[-1].number == newest.number:
            return found[-1]
        newest = found[-1]
    return newest


def _read(record_store: RecordStore, exec_id: str, number: int) -> list[StateRecord]:
    places = [keys.state(exec_id, n) for n in (number, number + 1)]
    return record_store.read_all(StateRecord, places)
