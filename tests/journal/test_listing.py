"""Listings: newest first, filtered, and true even where the hints are old."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kitaru.errors import RecordCorrupt
from kitaru.ops.show import show
from kitaru.runtime.engine.waits import answer
from kitaru.runtime.executions import listing
from kitaru.runtime.executions.listing import list_executions, page_of
from kitaru.runtime.executions.where import Where
from kitaru.runtime.journal.journal import Journal
from kitaru.stores.memory import MemoryStore
from kitaru.wire.records import EndRecord, WaitRequest

from .harness import execution


def start(store: MemoryStore, exec_id: str, minute: int = 0, flow: str = "f") -> Journal:
    at = f"2026-11-22T03:{minute:02d}:00.000000Z"
    return Journal.create(
        store, replace(execution(store, exec_id=exec_id), started_at=at, flow=flow)
    )


def ask(journal: Journal) -> Journal:
    """Suspend an execution at a question."""
    journal.request_wait(WaitRequest("ok", "", True))
    journal.set_state("waiting")
    return journal


def ids(store: MemoryStore, **filters: object) -> list[str]:
    return [item["exec_id"] for item in list_executions(store, **filters)]  # type: ignore[arg-type]


def test_newest_first_each_once(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_PAGE", 3)
    for minute in (5, 1, 9, 3):
        journal = start(store, f"e{minute}", minute)
        for status in ("waiting", "running", "waiting"):
            journal.set_state(status)
    assert ids(store) == ["e9", "e5", "e3", "e1"]
    assert ids(store, limit=2) == ["e9", "e5"]
    assert ids(store, limit=0) == []


def test_an_item_says_what_it_is(store: MemoryStore) -> None:
    start(store, "e1", 7)
    assert list_executions(store) == [
        {
            "exec_id": "e1",
            "flow": "f",
            "status": "running",
            "started_at": "2026-11-22T03:07:00.000000Z",
        }
    ]


def test_filters(store: MemoryStore) -> None:
    start(store, "e1", 1)
    start(store, "e2", 2, flow="g")
    ask(start(store, "e3", 3))
    start(store, "e4", 4).finish(EndRecord("completed", None, ""))
    assert ids(store, flow="g") == ["e2"]
    assert ids(store, status="running") == ["e2", "e1"]
    assert ids(store, status="waiting") == ["e3"]
    assert ids(store, status="completed", flow="f") == ["e4"]
    assert ids(store, status="failed") == []


def test_an_answered_execution_does_not_wait(store: MemoryStore) -> None:
    for number in (1, 2):
        journal = ask(start(store, f"e{number}", number))
    answer(journal, WaitRequest("ok", "", True), True)
    assert (ids(store, status="waiting"), ids(store, status="answered")) == (["e1"], ["e2"])
    assert [item["status"] for item in list_executions(store)] == ["answered", "waiting"]
    assert show(store, "e2").status == "answered"


def test_a_page_says_how_far_it_looked(store: MemoryStore) -> None:
    for minute in range(5):
        start(store, f"e{minute}", minute, flow="rare" if minute < 2 else "f")

    def page(limit: int, within: int, after: str = "") -> tuple[list[str], int, str | None]:
        found = page_of(store, Where(flow="rare"), limit=limit, within=within, after=after)
        return [item["exec_id"] for item in found.items], found.looked_at, found.next

    assert page(limit=5, within=3) == ([], 3, "e2")
    assert page(limit=5, within=3, after="e2") == (["e1", "e0"], 2, None)
    assert page(limit=5, within=4) == (["e1"], 4, "e1")
    assert page(limit=1, within=4) == (["e1"], 4, "e1")
    assert page(limit=5, within=5) == (["e1", "e0"], 5, None)


def test_a_hint_that_a_crash_swallowed_misleads_nobody(store: MemoryStore) -> None:
    ask(start(store, "e1"))
    [_, waiting] = store.list("index/")
    store.delete(waiting)
    assert ids(store, status="waiting") == ["e1"]
    assert ids(store, status="running") == []


def test_an_end_whose_state_was_lost(store: MemoryStore) -> None:
    start(store, "e1").finish(EndRecord("cancelled", None, ""))
    for key in [*store.list("x/e1/state/")[1:], *store.list("index/")[1:]]:
        store.delete(key)
    assert ids(store, status="cancelled") == ["e1"]


def test_something_else_in_the_index_is_told(store: MemoryStore) -> None:
    store.create("index/nonsense", b"")
    with pytest.raises(RecordCorrupt, match="index/nonsense"):
        list_executions(store)
