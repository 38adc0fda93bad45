"""When a record is known to be absent without being asked for by name, and when it no longer is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kitaru.runtime.journal import presence
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import Store
from kitaru.stores.memory import MemoryStore
from kitaru.wire import keys
from kitaru.wire.records import EndRecord, InvocationRecord

from .harness import EXEC, World, execution
from .schedules import every_schedule, run


class Bucket(MemoryStore):
    """A store that is a journey away, and keeps what was asked of it."""

    remote = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def get(self, key: str) -> bytes | None:
        self.asked.append(key)
        return super().get(key)


def invocation(id: str) -> InvocationRecord:
    return InvocationRecord(id, id, "checkpoint", f"m.{id}", "sha256:0", "completed")


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def journal(bucket: Bucket) -> Journal:
    return Journal.create(bucket, execution(bucket))


def test_who_is_alone_asks_for_no_record_by_name(bucket: Bucket, journal: Journal) -> None:
    assert journal.outcome_or_end("a") is None
    bucket.asked.clear()
    for id in "abc":
        journal.record(invocation(id))
        assert journal.outcome_or_end(f"after-{id}") is None
    assert bucket.asked == [keys.end(EXEC), keys.joined(EXEC)] * 3


def test_who_joins_says_so_before_it_records(bucket: Bucket, journal: Journal) -> None:
    joining = Journal.open(bucket, EXEC)
    assert joining.outcome_or_end("a") is None
    assert bucket.list(keys.joined(EXEC)) == [keys.joined(EXEC)]


def test_who_was_alone_asks_by_name_once_another_has_joined(
    bucket: Bucket, journal: Journal
) -> None:
    journal.record(invocation("a"))
    joining = Journal.open(bucket, EXEC)
    assert joining.outcome_or_end("b") is None
    joining.record(invocation("b"))
    journal.record(invocation("c"))
    assert journal.outcome_or_end("b") == invocation("b")


def test_an_end_is_seen_by_who_is_alone(bucket: Bucket, journal: Journal) -> None:
    end = EndRecord("cancelled", None, "-")
    Journal.open(bucket, EXEC).finish(end)
    journal.record(invocation("a"))
    assert journal.outcome_or_end("b") == end


def test_a_body_that_rests_asks_again(
    bucket: Bucket, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.record(invocation("a"))
    monkeypatch.setattr(presence, "_FRESH_SECONDS", 0)
    bucket.asked.clear()
    assert journal.outcome_or_end("b") is None
    assert bucket.asked == [keys.end(EXEC), keys.invocation(EXEC, "b")]


def test_a_replay_asks_for_what_it_adopted(bucket: Bucket) -> None:
    adopted = [(keys.invocation(EXEC, "b"), invocation("b"))]
    journal = Journal.adopting(bucket, execution(bucket), adopted)
    journal.record(invocation("a"))
    assert journal.outcome_or_end("b") == invocation("b")


def test_on_a_disk_nothing_is_said_and_everything_is_asked() -> None:
    store = MemoryStore()
    Journal.create(store, execution(store)).record(invocation("a"))
    Journal.open(store, EXEC).outcome_or_end("b")
    assert store.list(keys.joined(EXEC)) == []


@pytest.mark.parametrize("kill_at", [0, 2])
def test_nobody_calls_what_is_recorded(kill_at: int) -> None:
    """The process that began and one that joins, in every order; the first is killed or not."""

    def attempt(choices: Sequence[int]) -> list[int]:
        world = World(Bucket())
        record = execution(world.store)
        Journal.create(world.store, record)

        def call(journal: Journal, id: str) -> None:
            if journal.outcome_or_end(id) is None:
                key = keys.invocation(EXEC, id)
                assert key not in world.store.list(key), "I6: called though recorded"
                journal.record(invocation(id))

        def begins(store: Store) -> None:
            journal = Journal(store, record, began=True)
            journal.record(invocation("a"))
            call(journal, "b")

        def joins(store: Store) -> None:
            call(Journal(store, record), "b")

        widths = run(world.store, [begins, joins], choices, kill_at)
        world.look()
        return widths

    assert every_schedule(attempt) > 5
