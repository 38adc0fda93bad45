"""List what executions wait for: the questions of all executions that have no answer.

Each pending wait has a listing hint, so the inbox is one list, however many executions there are. A
hint may be out of date. The records of the wait decide, and a hint that they contradict is deleted.
A store that an earlier release wrote, or that was restored, has no hints yet: the first call
writes them.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from kitaru.errors import EnvironmentFailure, NotFound, StoreDenied
from kitaru.runtime.executions.listing import each_execution
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.journal.states import FINAL, read_state
from kitaru.wire import keys
from kitaru.wire.records import ExecutionRecord, WaitRefusal, WaitRequest
from kitaru.wire.structs import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kitaru.stores.base import Store

_PAGE = 1000
_AT_ONCE = 20


class OpenWait(Struct):
    """A question of an execution without an answer.

    `refused` is the reason why the flow rejected the last answer, empty without one.
    """

    exec_id: str
    flow: str
    request: WaitRequest
    refused: str


class Inbox(Struct):
    """A page of open waits, the oldest first.

    `looked_at` is the number of listing hints that were checked. `next` is the cursor of the next
    page, None on the last one.
    """

    items: list[OpenWait]
    looked_at: int
    next: str | None


class _Hint(NamedTuple):
    key: str
    exec_id: str
    name: str
    number: int


def inbox(
    store: Store,
    *,
    flow: str | None = None,
    limit: int = 20,
    within: int = 10_000,
    after: str = "",
) -> Inbox:
    """Return the open waits of executions that have not ended or failed.

    Args:
        flow: only executions of this flow.
        limit: maximum number of waits.
        within: check at most this many waits for this page.
        after: the cursor of the previous page.

    Raises:
        EnvironmentFailure: the store cannot be read.

    Example:
        [wait.request.question for wait in inbox(store).items]
    """
    hints = _hints(store, after)
    items: list[tuple[_Hint, OpenWait]] = []
    looked, last = 0, ""
    while len(items) < limit and looked < within:
        some = list(islice(hints, min(_AT_ONCE, within - looked)))
        if not some:
            break
        looked, last = looked + len(some), some[-1].key
        items += _checked(store, _of_flow(store, some, flow))
    if len(items) > limit:
        items = items[:limit]
        last = items[-1][0].key
    elif next(hints, None) is None:
        last = ""
    return Inbox([wait for _, wait in items], looked, last.removeprefix(keys.WAITING) or None)


def open_waits(store: Store, exec_id: str) -> list[OpenWait]:
    """Return the open waits of one execution, in the order of its calls; raise NotFound."""
    journal = Journal.open(store, exec_id)
    return [
        OpenWait(exec_id, journal.execution.flow, request, journal.refused(request.name))
        for request in journal.pending_waits()
    ]


def _hints(store: Store, after: str) -> Iterator[_Hint]:
    start = f"{keys.WAITING}{after}" if after else ""
    listed, unlisted = _listed(store, start), _list_all(store)
    for key in merge(listed, sorted(one for one in unlisted if one > start)):
        exec_id, name, number = key.split("/")[2:]
        yield _Hint(key, exec_id, name, int(number))


def _listed(store: Store, after: str) -> Iterator[str]:
    while page := store.list(keys.WAITING, after=after, limit=_PAGE):
        yield from page
        after = page[-1]


def _list_all(store: Store) -> set[str]:
    """List the waits of a store whose waits are not all listed; return those it may not list."""
    if store.get(keys.WAITS_LISTED) is not None:
        return set()
    try:
        for journal in _unfinished(store):
            journal.list_waits()
        store.create(keys.WAITS_LISTED, b"")
    except StoreDenied:
        return _unlisted(store)
    return set()


def _unlisted(store: Store) -> set[str]:
    """Return the hints that a reader without write access cannot write."""
    found = {key for journal in _unfinished(store) for key in journal.listed_waits()}
    return {one for one in found if one.startswith(keys.WAITING)} - {*store.list(keys.WAITING)}


def _unfinished(store: Store) -> Iterator[Journal]:
    for item in each_execution(store):
        if item["status"] not in (*FINAL, "failed"):
            # It may have been removed since it was listed.
            with suppress(NotFound):
                yield Journal.open(store, item["exec_id"])


def _of_flow(store: Store, hints: list[_Hint], flow: str | None) -> list[_Hint]:
    if flow is None:
        return hints
    held = store.get_all([hint.key for hint in hints])
    # A hint that was not written has no content, and its execution names the flow.
    return [hint for hint, data in zip(hints, held, strict=True) if data in (None, flow.encode())]


def _checked(store: Store, hints: list[_Hint]) -> list[tuple[_Hint, OpenWait]]:
    """Return the open waits among the hints, and delete the hints that are out of date."""
    found: dict[_Hint, OpenWait] = {}
    stale: list[str] = []
    if hints:
        store.concurrently(*[partial(_check, store, hint, found, stale) for hint in hints])
    if stale:
        with suppress(EnvironmentFailure):
            store.delete(*stale)
    return [(hint, found[hint]) for hint in hints if hint in found]


def _check(store: Store, hint: _Hint, found: dict[_Hint, OpenWait], stale: list[str]) -> None:
    exec_id, name, number = hint[1:]
    places = [
        keys.execution(exec_id),
        keys.wait_request(exec_id, name),
        keys.end(exec_id),
        keys.wait_answer(exec_id, name, number),
        keys.invocation(exec_id, name),
        keys.wait_revision(exec_id, name, 1),
    ]
    execution, first, *settled, revised = store.get_all(places)
    if execution is None or any(data is not None for data in settled):
        # A refusal of that answer is recorded after a hint of its own.
        stale.append(hint.key)
        return
    if first is None:
        # The hint is written before the question.
        return
    record_store = RecordStore(store)
    record = record_store.verify(ExecutionRecord, places[0], execution)
    request = record_store.verify(WaitRequest, places[1], first)
    if hint.key != keys.waiting(request.asked_at, exec_id, name, number):
        # Another process asked first, under a hint of its own.
        stale.append(hint.key)
        return
    if read_state(record_store, exec_id, record.started_at).status == "failed":
        return
    if revised is not None:
        request = Journal(store, record).wait_request(name) or request
    refused = ""
    if number > 1:
        place = keys.wait_refusal(exec_id, name, number - 1)
        refusal = record_store.read(WaitRefusal, place)
        if refusal is None:
            # The hint is written before the refusal.
            return
        refused = refusal.reason
    found[hint] = OpenWait(exec_id, record.flow, request, refused)
