"""What a segment spares a distant store, and that it costs nothing when it is wrong or gone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kitaru.errors import EnvironmentFailure, StoreDenied
from kitaru.runtime.journal import segments
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.stores.memory import MemoryStore
from kitaru.wire import keys
from kitaru.wire.records import ExitRecord, InvocationRecord

from .harness import EXEC, execution


class Bucket(MemoryStore):
    """A store that is a journey away, keeps what was asked of it, and may refuse segments."""

    remote = True
    refused: EnvironmentFailure | None = None

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def get(self, key: str) -> bytes | None:
        self.asked.append(key.removeprefix(keys.home(EXEC)).partition("-")[0])
        return super().get(key)

    def create(self, key: str, value: bytes) -> bool:
        if self.refused and key.startswith(keys.segments(EXEC)):
            raise self.refused
        return super().create(key, value)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"_RECORDS": 8, "_FEW": 3, "_AT_ONCE": 2}.items():
        monkeypatch.setattr(segments, name, value)


def invocation(number: int, text: str = "") -> InvocationRecord:
    metadata = {"text": text} if text else {}
    return InvocationRecord(
        f"s_{number}",
        "s",
        "checkpoint",
        "m.s",
        "-",
        "completed",
        position=number,
        metadata=metadata,
    )


def begun(store: MemoryStore, count: int, *, pause: bool = True) -> None:
    journal = Journal.create(store, execution(store))
    for number in range(count):
        journal.record(invocation(number))
    if pause:
        journal.set_state("waiting")


def again(store: MemoryStore) -> Journal:
    journal = Journal.open(store, EXEC)
    journal.mark_running()
    return journal


def written(store: MemoryStore) -> list[str]:
    return store.list(keys.segments(EXEC))


def expect_all(store: MemoryStore, count: int) -> None:
    journal = again(store)
    assert [journal.outcome_or_end(f"s_{n}") for n in range(count)] == [
        invocation(n) for n in range(count)
    ]
    assert journal.outcome_or_end("s_none") is None
    assert Journal.open(store, EXEC).invocations() == [invocation(n) for n in range(count)]


def test_going_on_reads_segments_some_at_a_time_and_no_record() -> None:
    store = Bucket()
    begun(store, 40)
    assert len(written(store)) == 5
    journal = again(store)
    store.asked.clear()
    seen = []
    for number in range(40):
        assert journal.outcome_or_end(f"s_{number}") == invocation(number)
        seen.append(len(store.asked))
    assert store.asked == [f"segment/{n:010d}" for n in (0, 8, 16, 24, 32)]
    assert (seen[0], seen[15], seen[16], seen[31], seen[32]) == (2, 2, 4, 4, 5)


def test_what_is_not_recorded_waits_for_no_segment() -> None:
    store = Bucket()
    begun(store, 40)
    journal = again(store)
    store.asked.clear()
    assert journal.outcome_or_end("s_99") is None
    assert set(store.asked) == {"end", "inv/s_99", "joined"}


def test_what_a_killed_process_left_in_no_segment_is_in_the_next_one() -> None:
    store = Bucket()
    begun(store, 21, pause=False)
    assert len(written(store)) == 2
    journal = again(store)
    assert [journal.outcome_or_end(f"s_{n}") for n in range(21)] == [
        invocation(n) for n in range(21)
    ]
    journal.set_state("failed")
    store.asked.clear()
    expect_all(store, 21)
    assert "inv/s_20" not in store.asked


def test_a_step_leaves_its_records_in_a_segment() -> None:
    store = Bucket()
    begun(store, 5, pause=False)
    journal = Journal.open(store, EXEC)
    for number in (5, 6, 7):
        journal.record(invocation(number))
    journal.record_exit(ExitRecord("b", "go", "c"))
    assert len(written(store)) == 1
    expect_all(store, 8)


@pytest.mark.parametrize("store", [Bucket(), MemoryStore()])
def test_few_records_and_a_near_store_get_none(store: MemoryStore) -> None:
    begun(store, 2 if store.remote else 40)
    assert written(store) == []


def test_a_large_record_is_left_to_itself() -> None:
    store = Bucket()
    journal = Journal.create(store, execution(store))
    records = [invocation(n, "x" * 70_000 if n == 2 else "") for n in range(5)]
    for record in records:
        journal.record(record)
    journal.set_state("waiting")
    (segment,) = written(store)
    assert len(store.get(segment) or b"") < 10_000
    assert Journal.open(store, EXEC).invocations() == records


def test_a_store_that_takes_no_segment_takes_the_records() -> None:
    store = Bucket()
    store.refused = StoreDenied("not there")
    begun(store, 20)
    assert written(store) == []
    expect_all(store, 20)


def test_a_segment_that_is_gone_costs_time_only() -> None:
    store = Bucket()
    begun(store, 20)
    journal = again(store)
    store.delete(written(store)[1])
    assert [journal.outcome_or_end(f"s_{n}") for n in range(20)] == [
        invocation(n) for n in range(20)
    ]
    expect_all(store, 20)


def test_a_segment_makes_nothing_recorded_and_changes_no_record() -> None:
    store = Bucket()
    begun(store, 20)
    ghost, other = invocation(99), invocation(3, "another")
    record_store = RecordStore(store)
    forged = b"".join(
        one.id.encode() + b"\n" + record_store.encode(keys.invocation(home, one.id), one)
        for one, home in [(ghost, EXEC), (other, "exec-2")]
    )
    replaced(store, written(store)[0], lambda data: forged + data)
    assert again(store).outcome_or_end("s_99") is None
    expect_all(store, 20)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_segment_that_is_torn_or_flipped_costs_time_only(data: st.DataObject) -> None:
    store = Bucket()
    begun(store, 12)
    place = data.draw(st.sampled_from(written(store)))
    held = MemoryStore.get(store, place) or b""
    at = data.draw(st.integers(0, len(held) - 1))
    torn = data.draw(st.sampled_from([held[:at], held[at:], b"", b"\n" * 7, held + held[:at]]))
    flipped = held[:at] + bytes([held[at] ^ data.draw(st.integers(1, 255))]) + held[at + 1 :]
    replaced(store, place, lambda _: data.draw(st.sampled_from([torn, flipped])))
    expect_all(store, 12)


def replaced(store: MemoryStore, key: str, change: Callable[[bytes], bytes]) -> None:
    data = store.get(key) or b""
    store.delete(key)
    store.create(key, change(data))
