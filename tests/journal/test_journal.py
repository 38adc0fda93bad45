"""What the journal of one execution remembers, method by method."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from kitaru.errors import (
    NotFound,
    RecordCorrupt,
    StateError,
    StoreUnavailable,
    UsageError,
    ValueNotEncodable,
    WaitConflict,
)
from kitaru.runtime.journal import blobs
from kitaru.runtime.journal.journal import Journal
from kitaru.stores.memory import MemoryStore
from kitaru.wire import keys
from kitaru.wire.envelope import decode, encode
from kitaru.wire.limits import INLINE_VALUE_BYTES
from kitaru.wire.records import (
    AttemptRecord,
    EndRecord,
    ErrorInfo,
    ExitRecord,
    InvocationRecord,
    StateRecord,
    StoredValue,
    WaitAnswer,
    WaitRequest,
)
from kitaru.wire.times import now

from .harness import EXEC, LARGE, execution


def invocation(id: str = "ck", value: StoredValue | None = None, **more: Any) -> InvocationRecord:
    return InvocationRecord(id, id, "checkpoint", "m.ck", "sha256:a", "completed", value, **more)


def test_equal_submissions_attach_and_different_ones_are_refused(store: MemoryStore) -> None:
    first = Journal.create(store, execution(store))
    assert Journal.create(store, execution(store)).execution == first.execution
    for other in (execution(store, inputs=2), replace(execution(store), flow="g")):
        with pytest.raises(StateError, match=EXEC):
            Journal.create(store, other)
    assert Journal.open(store, EXEC).state().number == 1


def test_an_unknown_execution(store: MemoryStore) -> None:
    with pytest.raises(NotFound, match="kitaru executions list"):
        Journal.open(store, "nobody")
    with pytest.raises(UsageError):
        Journal.open(store, "../etc")


def test_what_record_returns_is_what_every_reader_sees(journal: Journal) -> None:
    mine = invocation(
        value=journal.store_document({"b": [1, 2.5, None, "é\ud800"], "a": True}, "dict"),
        metadata={"tuple": (1, 2)},
        error=ErrorInfo("ValueError", "no"),
        uses=("a", "b"),
        artifacts=({"name": "note", "type": "str", "value": journal.store_document(LARGE)},),
        calls=({"model": "m", "prompt": journal.store_document("p"), "tokens": 3},),
    )
    held = journal.record(mine)
    again = Journal.open(journal.store, EXEC).invocation("ck")
    assert held == again
    assert held == replace(mine, metadata={"tuple": [1, 2]})


def test_the_second_record_adopts_the_first(journal: Journal) -> None:
    other = Journal.open(journal.store, EXEC)
    first = journal.record(invocation(value=journal.store_document("first")))
    assert other.record(invocation(value=other.store_document("second"))) == first
    assert other.invocation("ck") == first


def test_absence_is_asked_again_each_time(journal: Journal) -> None:
    journal.mark_running()
    assert journal.invocation("ck") is None
    held = Journal.open(journal.store, EXEC).record(invocation())
    assert journal.invocation("ck") == held


def test_invocations_come_in_program_order(journal: Journal) -> None:
    for id, position in (("b", 2), ("a", 13), ("c", 1)):
        journal.record(invocation(id, position=position))
    other = Journal.open(journal.store, EXEC)
    assert [record.id for record in other.invocations()] == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("characters", "inline"), [(INLINE_VALUE_BYTES - 2, True), (INLINE_VALUE_BYTES - 1, False)]
)
def test_values_up_to_64_kib_lie_in_the_record(
    journal: Journal, characters: int, inline: bool
) -> None:
    value = journal.store_document("x" * characters, "str")
    assert (value.blob is None, value.size, value.type) == (inline, characters + 2, "str")
    assert journal.fetch(value) == "x" * characters


def test_equal_large_values_are_written_once(journal: Journal) -> None:
    assert journal.store_document(LARGE) == journal.store_document(LARGE)
    assert len(journal.store.list(f"x/{EXEC}/blob/")) == 1


@pytest.mark.parametrize("document", [float("nan"), {1, 2}, object()])
def test_a_document_that_is_not_json_is_refused(journal: Journal, document: object) -> None:
    with pytest.raises(ValueNotEncodable):
        journal.store_document(document)


def test_a_value_over_the_limit_is_refused_before_it_is_written(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "MAX_DOCUMENT_BYTES", 70_000)
    with pytest.raises(ValueNotEncodable, match="at most"):
        journal.store_document(LARGE)
    assert journal.store.list(f"x/{EXEC}/blob/") == []


SWAPS: dict[str, Callable[[bytes], bytes | None]] = {
    "another value's": lambda data: b'"another"',
    "torn": lambda data: data[:-1],
    "a bit flipped": lambda data: data[:50_000] + bytes([data[50_000] ^ 1]) + data[50_001:],
    "empty": lambda data: b"",
    "gone": lambda data: None,
}


@pytest.mark.parametrize("how", SWAPS)
def test_a_blob_that_is_not_what_was_stored(journal: Journal, how: str) -> None:
    value = journal.store_document(LARGE)
    [key] = journal.store.list(f"x/{EXEC}/blob/")
    swap = SWAPS[how](journal.store.get(key) or b"")
    journal.store.delete(key)
    if swap is not None:
        journal.store.create(key, swap)
    with pytest.raises(RecordCorrupt, match="missing or damaged"):
        journal.fetch(value)
    if swap is not None:
        with pytest.raises(RecordCorrupt):
            journal.store_document(LARGE)


def test_a_value_whose_digest_lies(journal: Journal) -> None:
    with pytest.raises(RecordCorrupt):
        journal.fetch(replace(journal.store_document("a"), data="b"))


def test_a_store_that_says_exists_and_absent(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal.store, "create", lambda key, value: False)
    with pytest.raises(StoreUnavailable, match="exists and that it does not"):
        journal.record(invocation())


def test_s3_says_exists_when_a_race_was_lost_by_both(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, refusals = journal.store.create, [False, False]
    monkeypatch.setattr(
        journal.store,
        "create",
        lambda key, value: refusals.pop() if refusals else create(key, value),
    )
    assert journal.record(invocation()) == Journal.open(journal.store, EXEC).invocation("ck")


def test_attempts_are_numbered_and_kept(journal: Journal) -> None:
    for message in ("first", "second"):
        journal.add_attempt(AttemptRecord("ck", 0, ErrorInfo("E", message)))
    other = Journal.open(journal.store, EXEC)
    other.add_attempt(AttemptRecord("ck", 0, ErrorInfo("E", "third")))
    journal.add_attempt(AttemptRecord("ck_2", 0))
    kept = [(a.number, a.error and a.error.message) for a in other.attempts("ck")]
    assert kept == [(1, "first"), (2, "second"), (3, "third")]


def test_states_are_numbered_and_the_same_one_is_written_once(journal: Journal) -> None:
    assert (journal.state().status, journal.state().number) == ("running", 1)
    journal.set_state("running")
    error = ErrorInfo("ValueError", "no", "trace", "help", "ck")
    journal.set_state("failed", error)
    journal.set_state("failed", error)
    journal.set_state("failed", replace(error, message="other"))
    journal.set_state("running")
    state = journal.state()
    assert (state.number, state.status, state.error) == (4, "running", None)


def test_a_list_that_is_old_stops_no_status_change(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = journal.store.list(f"x/{EXEC}/state/")
    journal.set_state("waiting")
    with monkeypatch.context() as patch:
        patch.setattr(journal.store, "list", lambda prefix, **more: old)
        journal.set_state("failed")
        journal.set_state("failed")
    state = journal.state()
    assert (state.number, state.status) == (3, "failed")


class Overtaken(MemoryStore):
    """Another process takes each of these numbers of states just before this one does."""

    others: ClassVar[dict[str, str]] = {}

    def create_all(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        for key, _ in objects:
            if status := self.others.pop(key, ""):
                number = keys.state_number(key)
                super().create(key, encode(key, "other", StateRecord(number, status, now())))
        return super().create_all(objects)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        (["waiting"], ["running", "waiting", "failed"]),
        (["waiting", "running", "waiting"], ["running", "waiting", "running", "waiting", "failed"]),
        # What this process meant to write is there already.
        (["failed"], ["running", "failed"]),
        (["waiting", "failed"], ["running", "waiting", "failed"]),
    ],
)
def test_a_state_is_added_behind_those_of_another_process(
    others: list[str], expected: list[str]
) -> None:
    store = Overtaken()
    journal = Journal.create(store, execution(store))
    store.others = {keys.state(EXEC, n): status for n, status in enumerate(others, start=2)}
    journal.set_state("failed")
    assert store.others == {}
    places = store.list(keys.states(EXEC))
    found = [decode(place, store.get(place) or b"") for place in places]
    assert [state.status for state in found if isinstance(state, StateRecord)] == expected
    assert journal.state().status == "failed"


def test_the_first_end_counts_and_outweighs_late_states(journal: Journal) -> None:
    first = journal.finish(EndRecord("completed", journal.store_document("r"), "1"))
    other = Journal.open(journal.store, EXEC)
    assert other.finish(EndRecord("cancelled", None, "2")) == first
    other.set_state("failed", ErrorInfo("Zombie", "late"))
    state = journal.state()
    assert (state.status, state.error) == ("completed", None)
    assert journal.end() == first


def ask(journal: Journal, name: str = "ok", second: int = 1) -> WaitRequest:
    asked_at = f"2026-01-01T00:00:0{second}.000000Z"
    return journal.request_wait(
        WaitRequest(name, "Continue?", {"type": "boolean"}, {"k": 1}, asked_at)
    )


def test_pending_waits_are_those_without_an_answer(journal: Journal) -> None:
    later, earlier = ask(journal, "a", 2), ask(journal, "b", 1)
    ask(journal, "c")
    journal.answer(WaitAnswer("c", "abort"))
    assert journal.pending_waits() == [earlier, later]
    assert ask(journal, "a", 3) == later
    assert journal.wait_request("a") == later
    assert journal.wait_request("d") is None


def test_a_cancelled_wait_is_not_pending_for_any_reader(journal: Journal) -> None:
    """Its outcome is the only record of that: no process can end between two records."""
    kept = ask(journal, "kept")
    ask(journal, "lost")
    lost = replace(invocation("lost"), kind="wait", status="cancelled", sequence=1)
    assert journal.record(lost) == lost
    for reader in (journal, Journal.open(journal.store, EXEC)):
        assert (reader.pending_waits(), reader.pending_names()) == ([kept], ["kept"])


def test_a_refused_answer_leaves_room_for_the_next(journal: Journal) -> None:
    request = ask(journal)
    for number, value in enumerate(["a", "a", "b"], 1):
        held = journal.answer(WaitAnswer("ok", "value", value))
        assert (held.number, journal.pending_waits()) == (number, [])
        # Two processes that run the same flow refuse the same answer.
        journal.refuse(held, f"not {value}")
        journal.refuse(held, f"not {value}")
        assert journal.wait_answer("ok") is None
        assert (journal.pending_waits(), journal.refused("ok")) == ([request], f"not {value}")
    last = journal.answer(WaitAnswer("ok", "value", "c"))
    assert journal.answer(WaitAnswer("ok", "value", "c")) == last == journal.wait_answer("ok")
    with pytest.raises(WaitConflict, match='answered with "c"'):
        journal.answer(WaitAnswer("ok", "value", "a"))
    assert journal.pending_waits() == []


@pytest.mark.parametrize(
    "value", [True, False, None, 1, 1.0, "", [], {"value": {"$stored": {}}, "inputs": 1}]
)
def test_an_answer_comes_back_as_it_was_given(journal: Journal, value: object) -> None:
    journal.answer(WaitAnswer("ok", "value", value, "1"))
    held = Journal.open(journal.store, EXEC).wait_answer("ok")
    assert held is not None
    assert (held.value, type(held.value)) == (value, type(value))


def test_the_same_answer_again_is_fine_and_another_is_a_conflict(journal: Journal) -> None:
    first = journal.answer(WaitAnswer("ok", "value", True, "1"))
    assert journal.answer(WaitAnswer("ok", "value", True, "2")) == first
    for other in (WaitAnswer("ok", "value", 1), WaitAnswer("ok", "abort")):
        with pytest.raises(WaitConflict, match="answered with true"):
            journal.answer(other)
    journal.answer(WaitAnswer("no", "abort", None, "1"))
    with pytest.raises(WaitConflict, match="was aborted"):
        journal.answer(WaitAnswer("no", "value", None))


def test_an_exit_and_its_pointers(journal: Journal) -> None:
    assert journal.exit("draft") is None and journal.frame_pointer("ok") is None
    frame = journal.store_document({"v": 1})
    first = journal.record_exit(ExitRecord("draft", "go", "ok", frame, ({"line": 3},)))
    assert journal.record_exit(ExitRecord("draft", "end", None)) == first
    assert Journal.open(journal.store, EXEC).exit("draft") == first
    journal.set_frame_pointer("ok", {"from": "draft"})
    journal.set_frame_pointer("ok", {"passed": "end"})
    journal.set_frame_pointer("skipped", {"passed": "ok"})
    assert journal.frame_pointer("ok") == {"from": "draft"}
    assert journal.frame_pointer("skipped") == {"passed": "ok"}


KEY = "code/arguments"


def cached_elsewhere(journal: Journal, **more: Any) -> InvocationRecord | None:
    other = Journal.create(journal.store, execution(journal.store, exec_id="exec-2"))
    return other.cached(KEY, "research")


def test_a_cached_result_brings_its_large_values_along(journal: Journal) -> None:
    artifact = {"name": "n", "type": "str", "value": journal.store_document(LARGE + "2")}
    held = journal.record(
        invocation(value=journal.store_document(LARGE), artifacts=(artifact,)), cache_key=KEY
    )
    found = cached_elsewhere(journal)
    assert found == replace(held, cached_from=f"{EXEC}/ck")
    for key in journal.store.list(f"x/{EXEC}/"):
        journal.store.delete(key)
    other = Journal.open(journal.store, "exec-2")
    assert other.fetch(held.value) == LARGE  # type: ignore[arg-type]
    assert other.fetch(artifact["value"]) == LARGE + "2"  # type: ignore[arg-type]


def test_a_journal_does_not_grow_with_its_records(journal: Journal) -> None:
    for number in range(50):
        journal.record(invocation(f"ck_{number}"))
        assert journal.outcome_or_end(f"other_{number}") is None
    held = [one for one in gc.get_objects() if isinstance(one, InvocationRecord)]
    assert len([one for one in held if one.id.startswith("ck_")]) < 10


def test_failures_and_unkeyed_results_are_not_cached(journal: Journal) -> None:
    journal.record(invocation("a"))
    journal.record(replace(invocation("b"), status="failed"), cache_key=KEY)
    assert cached_elsewhere(journal) is None


def test_a_hint_whose_record_is_gone_or_another_is_no_result(journal: Journal) -> None:
    rival = Journal.open(journal.store, EXEC)
    rival.record(replace(invocation(), arguments_digest="sha256:other"))
    assert journal.record(invocation(), cache_key=KEY).arguments_digest == "sha256:other"
    assert cached_elsewhere(journal) is None
    journal.store.delete(f"x/{EXEC}/inv/ck")
    assert cached_elsewhere(journal) is None
