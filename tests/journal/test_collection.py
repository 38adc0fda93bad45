"""Old executions are removed whole: killed anywhere, beside readers and writers, never more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kitaru.errors import NotFound, StoreUnavailable
from kitaru.runtime.executions import gc
from kitaru.runtime.executions.gc import collect
from kitaru.runtime.executions.listing import list_executions
from kitaru.runtime.executions.replay import Changes, adopt
from kitaru.runtime.journal import states
from kitaru.runtime.journal.cache import cache_key
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import Store
from kitaru.stores.memory import MemoryStore
from kitaru.wire import keys
from kitaru.wire.records import EndRecord, InvocationRecord, Status
from kitaru.wire.times import ago

from .harness import FAULTS, LARGE, Fault, FaultyStore, Killed, execution
from .schedules import run

T = TypeVar("T")
AGE = timedelta(days=90)
OLD = ago(2 * AGE)


@pytest.fixture(autouse=True)
def long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "now", lambda: OLD)


def begin(store: Store, exec_id: str) -> Journal:
    return Journal.create(store, replace(execution(store, exec_id=exec_id), started_at=OLD))


def call(journal: Journal) -> InvocationRecord:
    made = InvocationRecord(
        "a",
        "a",
        "checkpoint",
        "m.a",
        "sha256:0",
        "completed",
        journal.store_document(LARGE),
        fingerprint="f",
    )
    return journal.record(made, cache_key=cache_key(made))


def ended(store: Store, exec_id: str, at: str = OLD) -> Journal:
    journal = begin(store, exec_id)
    call(journal)
    journal.finish(EndRecord("completed", journal.store_document(LARGE + "end"), at))
    return journal


def failed(store: Store, exec_id: str) -> Journal:
    journal = begin(store, exec_id)
    call(journal)
    journal.set_state("failed")
    return journal


def collected(store: Store, **options: bool) -> list[str]:
    return [one.exec_id for one in collect(store, AGE, **options)]


def listed(store: Store) -> list[str]:
    return sorted(item["exec_id"] for item in list_executions(store))


def left_of(store: Store, exec_id: str) -> list[str]:
    return [
        key
        for prefix in ("x/", "index/", "cache/", "gc/")
        for key in store.list(prefix)
        if exec_id in key or prefix == "cache/"
    ]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that a collection left for a later one is due."""
    monkeypatch.setattr(gc, "_SETTLED", timedelta(0))


def test_what_ended_long_ago_goes_and_the_rest_stays(store: MemoryStore) -> None:
    ended(store, "old")
    ended(store, "young", ago(AGE / 2))
    assert collected(store, dry_run=True) == ["old"]
    assert listed(store) == ["old", "young"]
    assert collected(store) == ["old"]
    assert listed(store) == ["young"]
    assert collected(store) == []


def test_its_end_says_so_until_a_later_collection(store: MemoryStore, later: None) -> None:
    ended(store, "old")
    for journal in (Journal.open(store, "old"),):
        assert collected(store) == ["old"]
        assert left_of(store, "old") == []
        with pytest.raises(NotFound):
            Journal.open(store, journal.exec_id)


def test_a_process_that_outlived_its_execution_is_stopped(store: MemoryStore) -> None:
    zombie = begin(store, "old")
    zombie.set_state("failed")
    assert collected(store) == ["old"]
    assert left_of(store, "old") == [keys.end("old"), keys.garbage("old")]
    end = zombie.outcome_or_end("a")
    assert isinstance(end, EndRecord) and end.status == "cancelled"


def test_what_it_wrote_goes_with_a_later_collection(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    zombie = begin(store, "old")
    zombie.set_state("failed")
    assert collected(store) == ["old"]
    call(zombie)
    monkeypatch.setattr(gc, "_SETTLED", timedelta(0))
    assert collected(store) == []
    assert [key for key in left_of(store, "old") if not key.startswith("cache/")] == []


@pytest.mark.parametrize("status", ["running", "waiting"])
def test_what_runs_or_waits_stays_however_old(store: MemoryStore, status: Status) -> None:
    begin(store, "old").set_state(status)
    assert collected(store) == []
    assert listed(store) == ["old"]


def test_the_source_of_a_replay_stays_as_long_as_the_replay(store: MemoryStore) -> None:
    source = ended(store, "old")
    middle = adopt(source, Changes(start=""))
    last = adopt(middle, Changes(at_failure=True))
    assert collected(store) == []
    for young in (last, middle):
        young.finish(EndRecord("completed", None, OLD))
    # They started now: it is what they ended that is long ago.
    assert collect_all(store) == {"old", middle.exec_id, last.exec_id}
    assert listed(store) == [] and store.list("replay/") == []


class Remote(MemoryStore):
    """Does what `concurrently` gets at once, as a bucket does."""

    def concurrently(self, first: Callable[[], T], *others: Callable[[], object]) -> T:
        with ThreadPoolExecutor(16) as pool:
            started = [pool.submit(other) for other in others]
            result = first()
            for each in started:
                each.result()
            return result


def test_many_go_at_once_from_a_bucket() -> None:
    store = Remote()
    sources = [ended(store, f"old-{number:03d}") for number in range(45)]
    replays = [adopt(source, Changes(start="")) for source in sources[::5]]
    for replay in replays[::2]:
        replay.finish(EndRecord("completed", None, OLD))
    kept = {one.exec_id for pair in zip(replays, sources[::5], strict=True) for one in pair}
    kept -= {one.exec_id for one in (*replays[::2], *sources[::10])}
    gone = collect_all(store)
    assert set(listed(store)) == kept
    assert gone == {one.exec_id for one in (*sources, *replays)} - kept


def collect_all(store: Store) -> set[str]:
    return {one.exec_id for one in collect(store, timedelta(0))}


def test_a_dry_run_says_what_goes_with_its_replays(store: MemoryStore) -> None:
    replayed = adopt(ended(store, "old"), Changes(start=""))
    replayed.finish(EndRecord("completed", None, OLD))
    found = {one.exec_id for one in collect(store, timedelta(0), dry_run=True)}
    assert found == {"old", replayed.exec_id}


def test_a_replay_that_nobody_finished_beginning_keeps_nothing(
    store: MemoryStore, later: None
) -> None:
    source = failed(store, "old")
    faulty = FaultyStore(store, "killed before", 12)
    with pytest.raises(Killed):
        adopt(Journal(faulty, source.execution), Changes(at_failure=True))
    assert store.list("replay/")
    assert collected(store) == ["old"]
    assert not store.list("x/") and not store.list("replay/")


def test_the_cache_leads_nowhere_else_and_may_lead_there_again(store: MemoryStore) -> None:
    ended(store, "old")
    young = ended(store, "young", ago(AGE / 2))
    assert len(store.list("cache/")) == 1
    assert collected(store) == ["old"]
    assert store.list("cache/") == []
    key = cache_key(call(begin(store, "third")))
    assert young.cached(key, "b") is not None


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("made", [ended, failed])
def test_killed_at_every_operation_and_run_again(
    fault: Fault, made: Callable[[Store, str], Journal]
) -> None:
    for at in range(1, 1000):
        store = MemoryStore()
        made(store, "old")
        faulty = FaultyStore(store, fault, at)
        try:
            collected(faulty)
        except (Killed, StoreUnavailable):
            assert_whole_or_gone(store)
        collected(store)
        assert listed(store) == []
        assert left_of(store, "old") == [keys.end("old"), keys.garbage("old")]
        if faulty.count < at:
            assert at > 15
            return


def assert_whole_or_gone(store: Store) -> None:
    for exec_id in listed(store):
        journal = Journal.open(store, exec_id)
        (record,) = journal.invocations()
        assert record.value is not None
        journal.fetch(record.value)


def replaying(choices: Sequence[int]) -> list[int]:
    """Collect an execution while another process replays it: it is there whole, or refused."""
    store, refused = MemoryStore(), list[bool]()
    source = failed(store, "old")

    def replay(faulty: Store) -> None:
        try:
            adopt(Journal(faulty, source.execution), Changes(at_failure=True))
        except NotFound:
            refused.append(True)

    widths = run(store, [lambda faulty: list(collect(faulty, AGE)), replay], choices, 0)
    assert len([one for one in listed(store) if one != "old"]) == (0 if refused else 1)
    assert_whole_or_gone(store)
    return widths


@pytest.mark.parametrize("first", [0, 1])
def test_a_replay_at_any_moment_of_a_collection_and_the_other_way_round(first: int) -> None:
    for moment in range(100):
        widths = replaying([first] * moment + [1 - first] * 100)
        if len(widths) < moment:
            assert moment > 15
            return


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 1), max_size=60))
def test_a_replay_beside_a_collection(choices: list[int]) -> None:
    replaying(choices)


@pytest.mark.parametrize("taken", range(6))
def test_a_result_of_the_cache_that_goes_while_it_is_taken_is_none(taken: int) -> None:
    for removed in range(100):
        store = MemoryStore()
        ended(store, "old")
        key, taking = cache_key(call(begin(store, "other"))), begin(store, "taking")

        def take(faulty: Store, key: str = key, taking: Journal = taking) -> None:
            Journal(faulty, taking.execution).cached(key, "b")

        choices = [1] * taken + [0] * removed + [1] * 20
        widths = run(store, [lambda faulty: list(collect(faulty, AGE)), take], choices, 0)
        if len(widths) < taken + removed:
            assert removed > 15
            return
