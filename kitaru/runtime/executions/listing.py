"""Decides which executions a listing shows: newest start first, hints verified."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import groupby, islice
from typing import Any

from kitaru.errors import RecordCorrupt
from kitaru.runtime.recording.ledger import Ledger
from kitaru.runtime.recording.states import FINAL, read_state, still
from kitaru.stores.base import Store
from kitaru.wire import keys
from kitaru.wire.structs import Struct
from kitaru.wire.times import uninvert

# What a bucket returns for one request.
_PAGE = 1000
_AT_ONCE = 20


class _Hint(Struct):
    started: str
    exec_id: str
    number: int
    status: str
    flow: str


class Page(Struct):
    """The newest executions of a kind, as `{"exec_id", "flow", "status", "started_at"}`.

    `looked_at` is how many were looked at for them where there may be others further back, else
    None.
    """

    items: list[dict[str, Any]]
    looked_at: int | None = None


def list_executions(
    store: Store, *, flow: str | None = None, status: str | None = None, limit: int = 20
) -> list[dict[str, Any]]:
    """Return the newest executions, however far back they are.

    Args:
        flow: only executions of this flow.
        status: only those that have this status now.
        limit: at most so many, newest start first.

    Raises:
        EnvironmentFailure: the store cannot be read.
    """
    return list(islice(each_execution(store, flow=flow, status=status), limit))


def page_of(store: Store, *, flow: str | None, status: str | None, limit: int, within: int) -> Page:
    """Return what `list_executions` does, having looked at the newest `within` executions only."""
    hints = _newest_hints(store)
    near = _verified(store, islice(hints, within), flow, status)
    items = list(islice(near, limit))
    more = len(items) < limit and next(hints, None) is not None
    return Page(items, within if more else None)


def each_execution(
    store: Store, *, flow: str | None = None, status: str | None = None, started_before: str = ""
) -> Iterator[dict[str, Any]]:
    """Yield the items of `list_executions`, for as long as somebody asks for more.

    `started_before` leaves out what started after that moment.
    """
    yield from _verified(store, _newest_hints(store, started_before), flow, status)


def _verified(
    store: Store, hints: Iterator[_Hint], flow: str | None, status: str | None
) -> Iterator[dict[str, Any]]:
    asked = (hint for hint in hints if flow in (None, hint.flow) and _may_be(hint, status))
    while some := list(islice(asked, _AT_ONCE)):
        found: dict[str, str] = {}
        store.together(*[partial(_look, store, hint, found) for hint in some])
        for hint in some:
            if status in (None, found[hint.exec_id]):
                yield _item(hint, found[hint.exec_id])


def _newest_hints(store: Store, started_before: str = "") -> Iterator[_Hint]:
    hints = (_parse(key) for key in _index(store, started_before))
    for _, states in groupby(hints, key=lambda hint: (hint.started, hint.exec_id)):
        yield list(states)[-1]


def _index(store: Store, started_before: str) -> Iterator[str]:
    after = keys.started_before(started_before) if started_before else ""
    while page := store.list(keys.INDEX, after=after, limit=_PAGE):
        yield from page
        after = page[-1]


def _parse(key: str) -> _Hint:
    try:
        _, started, exec_id, number, status, flow = key.split("/")
        return _Hint(started, exec_id, int(number), status, flow)
    except ValueError as error:
        raise RecordCorrupt(f"{key} is not an entry of the index of executions.") from error


def _may_be(hint: _Hint, status: str | None) -> bool:
    # A hint of an end is only written once the end is; any other may be older than the journal.
    return status in (None, hint.status) or hint.status not in FINAL


def _look(store: Store, hint: _Hint, found: dict[str, str]) -> None:
    found[hint.exec_id] = hint.status
    if hint.status not in FINAL:
        ledger = Ledger(store)
        now = still(ledger, hint.exec_id, hint.number)
        now = now or read_state(ledger, hint.exec_id, uninvert(hint.started))
        found[hint.exec_id] = now.status


def _item(hint: _Hint, status: str) -> dict[str, Any]:
    started_at = uninvert(hint.started)
    return {
        "exec_id": hint.exec_id,
        "flow": hint.flow,
        "status": status,
        "started_at": started_at,
    }
