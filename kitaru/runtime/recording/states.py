"""Decides which status an execution has: its end if there is one, else its newest state record."""

from __future__ import annotations

from kitaru.runtime.recording.ledger import Ledger
from kitaru.wire import keys
from kitaru.wire.records import EndRecord, ErrorInfo, ExecutionRecord, StateRecord, Status
from kitaru.wire.times import now

FINAL: tuple[Status, ...] = ("completed", "cancelled")


def read_end(ledger: Ledger, exec_id: str) -> EndRecord | None:
    """Return how the execution ended for good, or None."""
    return ledger.read(EndRecord, keys.end(exec_id))


def read_state(ledger: Ledger, exec_id: str, started_at: str) -> StateRecord:
    """Return the execution's state; one that has recorded none is running, as number 0."""
    newest = _newest(ledger, exec_id, started_at)
    end = read_end(ledger, exec_id)
    # A process that outlived its successor may have added a state after the end.
    return StateRecord(newest.number, end.status, end.at) if end is not None else newest


def still(ledger: Ledger, exec_id: str, number: int) -> StateRecord | None:
    """Return the state of that number if it is the newest and nothing has ended; a single look."""
    places = keys.state(exec_id, number), keys.state(exec_id, number + 1), keys.end(exec_id)
    state, later, end = ledger.store.get_all(places)
    if state is None or later is not None or end is not None:
        return None
    return ledger.verify(StateRecord, places[0], state)


def write_state(
    ledger: Ledger, execution: ExecutionRecord, status: Status, error: ErrorInfo | None = None
) -> None:
    """Add a state and its listing hint, unless the newest state says the same already."""
    newest = _newest(ledger, execution.exec_id, execution.started_at)
    # A list may be old: whoever holds the next number tells where to go on.
    while (newest.status, newest.error) != (status, error):
        newest = _add(ledger, execution, StateRecord(newest.number + 1, status, now(), error))


def write_first_state(ledger: Ledger, execution: ExecutionRecord) -> None:
    """Write state 1, running, and its hint, where a crash or another process has not."""
    _add(ledger, execution, StateRecord(1, "running", execution.started_at))


def _add(ledger: Ledger, execution: ExecutionRecord, state: StateRecord) -> StateRecord:
    exec_id, number = execution.exec_id, state.number
    hint = keys.index(execution.started_at, exec_id, number, state.status, execution.flow)
    return ledger.write(keys.state(exec_id, number), state, (hint, b""))


def _newest(ledger: Ledger, exec_id: str, started_at: str) -> StateRecord:
    listed = ledger.store.list(keys.states(exec_id))
    newest = StateRecord(keys.state_number(listed[-1]) if listed else 0, "running", started_at)
    # A list may be old: the next number is asked for by its exact key, until there is none.
    while found := _read(ledger, exec_id, newest.number):
        if found[-1].number == newest.number:
            return found[-1]
        newest = found[-1]
    return newest


def _read(ledger: Ledger, exec_id: str, number: int) -> list[StateRecord]:
    places = [keys.state(exec_id, n) for n in (number, number + 1)]
    return ledger.read_all(StateRecord, places)
