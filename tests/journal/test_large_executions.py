"""Executions of many invocations: pages are complete, and little of them is in memory at once."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from kitaru.runtime.executions.artifacts import each_artifact
from kitaru.runtime.executions.comparison import compare
from kitaru.runtime.executions.overview import Overview, overview
from kitaru.runtime.journal import segments
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.lineage import parents_by_content, trace
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.stores import Store
from kitaru.stores.memory import MemoryStore
from kitaru.stores.sqlite import SqliteStore
from kitaru.wire import keys
from kitaru.wire.records import AttemptRecord, InvocationRecord
from tests.waiting import attempts

from .harness import execution

AT = "2026-11-29T10:00:00.000000Z"
LATER = "2026-11-29T10:00:02.000000Z"


class Remote(MemoryStore):
    """A store in memory that counts as a bucket, and counts what is read."""

    remote = True
    reads = 0

    def get(self, key: str) -> bytes | None:
        self.reads += 1
        return super().get(key)


def record(number: int, count: int) -> InvocationRecord:
    name = "step" if number % 2 else "other"
    # Ids sort in another order than the calls were made in.
    return InvocationRecord(
        f"{name}_{count - number}",
        name,
        "checkpoint",
        f"m.{name}",
        f"digest {number}",
        "failed" if number % 100 == 7 else "completed",
        started_at=AT,
        ended_at=LATER,
        position=number,
    )


def filled(store: Store, count: int, exec_id: str = "e") -> Journal:
    journal = Journal.create(store, execution(store, exec_id=exec_id))
    made = [record(number, count) for number in range(count)]
    if not store.remote:
        # A commit for each would wait for the disk each time.
        RecordStore(store).write_all([(keys.invocation(exec_id, one.id), one) for one in made])
        return journal
    for one in made:
        journal.record(one)
    return journal


@pytest.fixture(params=["sqlite", "remote"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return SqliteStore(tmp_path / "k.db") if request.param == "sqlite" else Remote()


def test_pages_have_each_invocation_once_in_program_order(store: Store) -> None:
    journal = filled(store, 530)
    found: list[int] = []
    after, pages = "", 0
    for _ in attempts():
        page = overview(journal, limit=100, after=after)
        assert page.total == 530
        found += [one.position for one in page.page]
        pages += 1
        if page.next is None:
            break
        after = page.next
    assert (found, pages) == (list(range(530)), 6)


def test_an_overview_counts_all_and_shows_the_first_the_last_and_the_failed(store: Store) -> None:
    journal = filled(store, 530)
    for number in range(1, 30):
        journal.add_attempt(AttemptRecord("step_1", number, started_at=AT, ended_at=LATER))
    seen = overview(journal, limit=5, tail=3)
    assert [one.position for one in seen.page] == [0, 1, 2, 3, 4]
    assert [one.position for one in seen.last] == [527, 528, 529]
    assert [one.position for one in seen.failed] == [7 + 100 * n for n in range(6)]
    counted = [(one.name, one.count, one.failed, one.seconds) for one in seen.counts]
    assert counted == [("other", 265, 0, 530.0), ("step", 265, 6, 518.0)]
    assert (len(seen.attempts), seen.attempts_total) == (5, 29)
    assert seen.effort.seconds == 2 * (524 + 29)


def test_a_few_invocations_are_all_on_the_first_page(store: Store) -> None:
    seen = overview(filled(store, 20), limit=50, tail=10)
    assert (len(seen.page), seen.next, seen.last, seen.failed) == (20, None, [], [])


def test_records_of_a_bucket_are_counted_in_segments() -> None:
    store = Remote()
    journal = filled(store, 1_300)
    store.reads = 0
    assert overview(journal, limit=0).total == 1_300
    # Five segments, and 20 records that are in none.
    assert store.reads == 5 + 20


def test_a_copy_that_is_damaged_is_read_from_the_record_itself() -> None:
    store = Remote()
    journal = filled(store, 300)
    (segment,) = store.list(keys.segments("e"))
    data = store.get(segment)
    assert data is not None
    store.delete(segment)
    store.create(segment, data.replace(b'"completed"', b'"failed"', 1))
    seen = overview(journal, limit=0)
    assert sum(one.failed for one in seen.counts) == 3
    assert len(journal.invocations()) == 300


def _pages(journal: Journal) -> Overview:
    return overview(journal, limit=50, tail=10)


def _artifacts(journal: Journal) -> int:
    return sum(1 for _ in each_artifact(journal))


@pytest.mark.parametrize("look", [_pages, _artifacts])
def test_memory_hardly_grows_with_the_invocations(
    in_few: Callable[[], None], store: Store, look: Callable[[Journal], object]
) -> None:
    peaks = []
    for count in (1_000, 4_000):
        journal = filled(store, count, f"e{count}")
        look(journal)
        tracemalloc.start()
        look(journal)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # A record takes 3 kB as an object, and 80 bytes as a place in the order.
    assert (peaks[1] - peaks[0]) / 3_000 < 600


@pytest.fixture
def in_few(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let little be read at once, so that a thousand invocations are many."""
    monkeypatch.setattr(segments, "_AT_ONCE", 1)
    monkeypatch.setattr(segments, "_LOOSE", 64)
    return lambda: None


def test_lineage_takes_traces_in_any_order(store: Store) -> None:
    journal = filled(store, 40)
    made = parents_by_content(map(trace, journal.glances()))
    assert list(made) == [record(n, 40).id for n in range(40)]


def test_of_many_rows_a_comparison_returns_those_that_differ(store: Store) -> None:
    a, b = filled(store, 60, "a"), filled(store, 61, "b")
    whole = compare(a, b)
    assert len(whole.rows) == sum(whole.counts.values())
    differing = [row.id for row in whole.rows if row.change != "same"]
    first = compare(a, b, limit=10)
    assert [row.id for row in first.rows] == differing[:10]
    assert (first.next, first.counts) == (10, whole.counts)
    second = compare(a, b, limit=10, skip=10)
    assert [row.id for row in second.rows] == differing[10:20]
    assert compare(a, a, limit=10).rows == ()
    assert compare(a, a, limit=60).next is None
