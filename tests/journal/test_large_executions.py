"""Executions of many invocations: pages are complete, and little of them is in memory at once."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from kitaru.cli.output import Output
from kitaru.cli.render.progress import Progress
from kitaru.errors import WaitTimeout
from kitaru.handle import Handle
from kitaru.ops.calls import calls
from kitaru.runtime.executions.artifacts import each_artifact
from kitaru.runtime.executions.comparison import compare
from kitaru.runtime.executions.model_calls import each_call
from kitaru.runtime.executions.overview import Overview, overview
from kitaru.runtime.executions.replay import Changes, adopt
from kitaru.runtime.journal import segments
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.lineage import parents_by_content, trace
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.status import ExecutionStatus
from kitaru.stores import Store
from kitaru.stores.memory import MemoryStore
from kitaru.stores.sqlite import SqliteStore
from kitaru.wire import keys
from kitaru.wire.envelope import glance
from kitaru.wire.records import AttemptRecord, InvocationRecord
from kitaru.wire.structs import replace
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


def test_of_many_unseen_outcomes_the_last_are_returned(store: Store) -> None:
    journal = filled(store, 530)
    seen = {record(number, 530).id for number in range(5)}
    found = journal.unseen(seen, 40)
    assert [one.position for one in found] == list(range(490, 530))
    assert len(seen) == 530
    assert journal.unseen(seen, 40) == []
    # A look at a few new ones reads only those.
    journal.record(record(530, 531))
    if isinstance(store, Remote):
        store.reads = 0
    assert [one.position for one in journal.unseen(seen, 40)] == [530]
    assert not isinstance(store, Remote) or store.reads == 1


def test_a_resume_reads_each_record_once_and_nothing_else() -> None:
    store = MemoryStore()
    read: list[str] = []
    filled(store, 30)
    journal = Journal.open(store, "e")

    def get(key: str) -> bytes | None:
        read.append(key)
        return MemoryStore.get(store, key)

    with patch.object(store, "get", get):
        for number in range(30):
            assert journal.outcome_or_end(record(number, 30).id) is not None
        assert read == [keys.invocation("e", record(number, 30).id) for number in range(30)]
        for _ in range(2):
            read.clear()
            assert journal.outcome_or_end("new") is None
        # The outcome is read last, as late as possible before the call runs.
        assert read == [keys.end("e"), keys.invocation("e", "new")]


@pytest.mark.parametrize(("count", "looks"), [(10, 30), (12_000, 7)])
def test_progress_looks_less_often_at_many_invocations(count: int, looks: int) -> None:
    store = MemoryStore()
    journal = filled(store, 5)
    listed = 0

    class Running(Handle[None]):
        turns = 0

        def settle(self, timeout: float | None = None) -> ExecutionStatus:
            self.turns += 1
            if self.turns > 30:
                return ExecutionStatus.COMPLETED
            raise WaitTimeout("")

    def unseen(seen: set[str], most: int) -> list[InvocationRecord]:
        nonlocal listed
        listed += 1
        return []

    with patch.object(journal, "unseen", unseen):
        shown = [f"step_{number}" for number in range(count)]
        Progress(journal, Output(as_json=False), shown).follow(Running(journal, None))
    assert listed == looks + 1


def test_only_records_with_model_calls_are_parsed(store: Store) -> None:
    journal = filled(store, 130)
    made = [replace(record(n, 2_000), calls=({"model": "m", "n": n},)) for n in (131, 130)]
    # A value may look like a record without calls, or with them.
    made.append(replace(record(132, 2_000), metadata={"calls": []}, calls=({"n": 132},)))
    made.append(replace(record(133, 2_000), metadata={"calls": [{}]}))
    for one in made:
        journal.record(one)
    parsed = 0

    def counted(key: str, data: bytes) -> dict[str, Any]:
        nonlocal parsed
        parsed += 1
        return glance(key, data)

    with patch("kitaru.runtime.journal.journal.glance", counted):
        assert [call.facts["n"] for call in each_call(journal)] == [130, 131, 132]
    assert parsed == 4


def test_the_calls_of_one_invocation_need_only_its_records() -> None:
    store = Remote()
    journal = filled(store, 300)
    one = replace(record(300, 2_000), calls=({"model": "m"},))
    journal.record(one)
    store.reads = 0
    (call,) = calls(store, "e", one.id)
    assert (call["model"], store.reads) == ("m", 2)


def test_a_replay_has_few_records_in_memory(tmp_path: Path) -> None:
    store, peaks = SqliteStore(tmp_path / "k.db"), []
    for count in (500, 2_500):
        source = filled(store, count, f"e{count}")
        start = record(count - 1, count).id
        tracemalloc.start()
        replayed = adopt(source, Changes(start=start))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(replayed.recorded()) == count - 1
    # A record takes 3 kB as an object.
    assert (peaks[1] - peaks[0]) / 2_000 < 1_000


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
