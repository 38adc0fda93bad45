"""List executions, newest first, from verified index entries."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import groupby, islice
from typing import Any

from kitaru.errors import NotFound, RecordCorrupt
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.journal.states import FINAL, read_state, shown_status, still
from kitaru.status import ExecutionStatus
from kitaru.stores.base import Store
from kitaru.wire import keys
from kitaru.wire.records import ExecutionRecord, Status
from kitaru.wire.structs import Struct
from kitaru.wire.times import uninvert

# The page size of a bucket.
_PAGE = 1000
_AT_ONCE = 20
# An execution with one of these statuses does nothing until its status changes.
_AT_REST: tuple[Status, ...] = (*FINAL, "failed", "waiting")


class _Hint(Struct):
    started: str
    exec_id: str
    number: int
    status: str
    flow: str


class Listed(dict[str, Any]):
    """`{"exec_id", "flow", "status", "started_at"}` of an execution, also as attributes."""

    @property
    def exec_id(self) -> str:
        """Execution id."""
        return str(self["exec_id"])

    @property
    def flow_name(self) -> str:
        """Name of the flow."""
        return str(self["flow"])

    flow_id = flow_name

    @property
    def status(self) -> ExecutionStatus:
        """Status at the time of listing."""
        return ExecutionStatus(self["status"])

    @property
    def started_at(self) -> str:
        """Start time, UTC."""
        return str(self["started_at"])


class Page(Struct):
    """A page of executions, newest first, as `{"exec_id", "flow", "status", "started_at"}`.

    `looked_at` is the number of executions checked for this page if older ones were not checked,
    else None. `next` is the execution after which the next page starts, None on the last page.
    `total` is the number of executions of the flow. It is None if a status was requested or the
    store is remote, since counting would take too many requests.
    """

    items: list[Listed]
    looked_at: int | None = None
    next: str | None = None
    total: int | None = None


def list_executions(
    store: Store, *, flow: str | None = None, status: str | None = None, limit: int = 20
) -> list[Listed]:
    """Return the newest matching executions, however old they are.

    Args:
        flow: only executions of this flow.
        status: only executions with this current status, including `interrupted`.
        limit: maximum number of executions, newest start first.

    Raises:
        EnvironmentFailure: the store cannot be read.
    """
    return list(islice(each_execution(store, flow=flow, status=status), limit))


def page_of(
    store: Store,
    *,
    flow: str | None,
    status: str | None,
    limit: int,
    within: int,
    after: str = "",
    page: int = 1,
) -> Page:
    """Return a page of `list_executions`, checking only the newest `within` executions.

    `after` is the id of the last execution on the previous page; raises NotFound. `page` counts
    pages of `limit` executions after that.
    """
    hints = _newest_hints(store, _place_of(store, after) if after else "")
    near = _verified(store, islice(hints, within), flow, status)
    items = list(islice(near, (page - 1) * limit, page * limit))
    last = items[-1]["exec_id"] if len(items) == limit and next(near, None) is not None else None
    more = len(items) < limit and next(hints, None) is not None
    total = None
    if last is not None and status is None and not store.remote:
        total = sum(flow in (None, hint.flow) for hint in _newest_hints(store))
    return Page(items, within if more else None, last, total)


def _place_of(store: Store, exec_id: str) -> str:
    record = RecordStore(store).read(ExecutionRecord, keys.execution(exec_id))
    if record is None:
        raise NotFound(f"There is no execution {exec_id} in {store.url}.")
    # "0" sorts directly after "/", so the hints of this execution are skipped.
    return keys.indexed(record.started_at, exec_id)[:-1] + "0"


def each_execution(
    store: Store, *, flow: str | None = None, status: str | None = None, started_before: str = ""
) -> Iterator[Listed]:
    """Yield the items of `list_executions` on demand.

    `started_before` leaves out executions that started after that moment.
    """
    after = keys.started_before(started_before) if started_before else ""
    yield from _verified(store, _newest_hints(store, after), flow, status)


def executions_since(store: Store, moment: str, *, flow: str | None = None) -> Iterator[Listed]:
    """Yield the items of `list_executions` that may have been active since a moment.

    Executions that reached their last status before that moment are omitted. Ended, failed or
    waiting, they have done nothing since. Reads one or two records per execution.
    """
    found = each_execution(store, flow=flow)
    while some := list(islice(found, _AT_ONCE)):
        early = [one for one in some if one["started_at"] < moment and one["status"] in _AT_REST]
        last: dict[str, str] = {}
        if early:
            store.concurrently(*[partial(_learn_last, store, one, last) for one in early])
        yield from (one for one in some if last.get(one["exec_id"], moment) >= moment)


def _learn_last(store: Store, item: dict[str, Any], last: dict[str, str]) -> None:
    last[item["exec_id"]] = read_state(RecordStore(store), item["exec_id"], item["started_at"]).at


def _verified(
    store: Store, hints: Iterator[_Hint], flow: str | None, status: str | None
) -> Iterator[Listed]:
    asked = (hint for hint in hints if flow in (None, hint.flow) and _may_be(hint, status))
    while some := list(islice(asked, _AT_ONCE)):
        found: dict[str, str] = {}
        store.concurrently(*[partial(_look, store, hint, found) for hint in some])
        for hint in some:
            if status in (None, found[hint.exec_id]):
                yield _item(hint, found[hint.exec_id])


def _newest_hints(store: Store, after: str = "") -> Iterator[_Hint]:
    hints = (_parse(key) for key in _index(store, after))
    for _, states in groupby(hints, key=lambda hint: (hint.started, hint.exec_id)):
        yield list(states)[-1]


def _index(store: Store, after: str) -> Iterator[str]:
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
    # The hint of an end is written after the end. Any other hint may be older than the journal.
    return status in (None, hint.status) or hint.status not in FINAL


def _look(store: Store, hint: _Hint, found: dict[str, str]) -> None:
    found[hint.exec_id] = hint.status
    if hint.status not in FINAL:
        record_store = RecordStore(store)
        now = still(record_store, hint.exec_id, hint.number)
        now = now or read_state(record_store, hint.exec_id, uninvert(hint.started))
        found[hint.exec_id] = shown_status(store, hint.exec_id, uninvert(hint.started), now.status)


def _item(hint: _Hint, status: str) -> Listed:
    started_at = uninvert(hint.started)
    return Listed(exec_id=hint.exec_id, flow=hint.flow, status=status, started_at=started_at)
