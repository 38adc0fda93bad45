"""Decides which executions a listing shows: newest start first, hints verified."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

from kitaru.errors import RecordCorrupt
from kitaru.runtime.ledger import Ledger
from kitaru.runtime.states import FINAL, read_state
from kitaru.stores.base import Store
from kitaru.wire import keys
from kitaru.wire.times import uninvert

_PAGE = 256


@dataclass(frozen=True, slots=True)
class _Hint:
    started: str
    exec_id: str
    status: str
    flow: str


def list_executions(
    store: Store, *, flow: str | None = None, status: str | None = None, limit: int = 20
) -> list[dict[str, Any]]:
    """Return the newest executions as `{"exec_id", "flow", "status", "started_at"}`.

    Args:
        flow: only executions of this flow.
        status: only those that have this status now.
        limit: at most so many, newest start first.

    Raises:
        EnvironmentFailure: the store cannot be read.
    """
    return list(islice(each_execution(store, flow=flow, status=status), limit))


def each_execution(
    store: Store, *, flow: str | None = None, status: str | None = None
) -> Iterator[dict[str, Any]]:
    """Yield what `list_executions` returns, for as long as somebody asks for more."""
    ledger = Ledger(store)
    for hint in _newest_hints(store):
        if flow is not None and hint.flow != flow:
            continue
        now = _status(ledger, hint)
        if status is None or now == status:
            yield _item(hint, now)


def _newest_hints(store: Store) -> Iterator[_Hint]:
    hints = (_parse(key) for key in _index(store))
    for _, states in groupby(hints, key=lambda hint: (hint.started, hint.exec_id)):
        yield list(states)[-1]


def _index(store: Store) -> Iterator[str]:
    after = ""
    while page := store.list(keys.INDEX, after=after, limit=_PAGE):
        yield from page
        after = page[-1]


def _parse(key: str) -> _Hint:
    try:
        _, started, exec_id, _, status, flow = key.split("/")
        return _Hint(started, exec_id, status, flow)
    except ValueError as error:
        raise RecordCorrupt(f"{key} is not an entry of the index of executions.") from error


def _status(ledger: Ledger, hint: _Hint) -> str:
    # A hint of an end is only written once the end is; any other may be older than the journal.
    if hint.status in FINAL:
        return hint.status
    return read_state(ledger, hint.exec_id, uninvert(hint.started)).status


def _item(hint: _Hint, status: str) -> dict[str, Any]:
    started_at = uninvert(hint.started)
    return {
        "exec_id": hint.exec_id,
        "flow": hint.flow,
        "status": status,
        "started_at": started_at,
    }
