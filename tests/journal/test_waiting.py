"""The inbox: every pending wait is in it, whatever was killed, and nothing else is."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from itertools import count

import pytest

from kitaru.errors import NotFound, StoreDenied, StoreUnavailable
from kitaru.ops.inbox import Inbox, inbox
from kitaru.runtime.executions.gc import collect
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import Store
from kitaru.stores.memory import MemoryStore
from kitaru.wire import keys
from kitaru.wire.records import EndRecord, ErrorInfo, WaitAnswer, WaitRequest
from kitaru.wire.structs import replace
from kitaru.wire.times import later, now

from .harness import EXEC, FAULTS, Fault, FaultyStore, Killed, World, execution

_seconds = count()


def ask(journal: Journal, name: str = "ok", question: str = "Continue?") -> WaitRequest:
    asked_at = later("2026-01-01T00:00:00.000000Z", next(_seconds))
    return journal.request_wait(WaitRequest(name, question, {"type": "boolean"}, {}, asked_at))


def start(store: Store, exec_id: str, flow: str = "f") -> Journal:
    return Journal.create(store, replace(execution(store, exec_id=exec_id), flow=flow))


def listed(store: Store) -> list[tuple[str, str]]:
    return [(wait.exec_id, wait.request.name) for wait in inbox(store).items]


def hints(store: Store) -> list[str]:
    return store.list(keys.WAITING)


def pending(store: Store) -> list[tuple[str, str]]:
    """Return the pending waits of unfinished executions, from their records alone."""
    found = []
    for key in store.list("x/"):
        if key.endswith("/execution"):
            journal = Journal.open(store, key.split("/")[1])
            if journal.state().status not in ("completed", "cancelled", "failed"):
                found += [(journal.exec_id, name) for name in journal.pending_names()]
    return sorted(found)


def live(store: Store) -> None:
    """Ask, answer, refuse, answer again, and ask another question that a cancellation ends."""
    with contextlib.suppress(NotFound):
        journal = Journal.open(store, EXEC)
        ask(journal)
        answer = journal.answer(WaitAnswer("ok", "value", "no"))
        if answer.value == "no":
            journal.refuse(answer, "not a boolean")
        ask(journal, question="Really?")
        journal.answer(WaitAnswer("ok", "value", True))
        ask(journal, "other")
        journal.finish(EndRecord("cancelled", None, now()))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_every_operation(fault: Fault) -> None:
    for at in range(1, 300):
        world = World(MemoryStore())
        start(world.store, EXEC)
        inbox(world.store)
        store = FaultyStore(world.store, fault, at)
        with contextlib.suppress(Killed, StoreUnavailable):
            live(store)
        world.look()
        assert sorted(listed(world.store)) == pending(world.store), at
        with contextlib.suppress(Exception):
            live(world.store)
        world.look()
        assert sorted(listed(world.store)) == pending(world.store), at
        if store.count < at:
            break
    assert at > 40


@pytest.mark.parametrize("fault", FAULTS)
def test_a_reader_that_ends_at_any_operation_loses_no_wait(fault: Fault) -> None:
    for at in range(1, 300):
        store = MemoryStore()
        waits, answered = start(store, "e1"), start(store, "e2")
        ask(waits), ask(answered), ask(start(store, "e3"))
        answered.store.create(*hint_of(answered.answer(WaitAnswer("ok", "value", True)), answered))
        reader = FaultyStore(store, fault, at)
        with contextlib.suppress(Killed, StoreUnavailable):
            inbox(reader)
        assert listed(store) == [("e1", "ok"), ("e3", "ok")]
        if reader.count < at:
            break
    assert at > 15


def hint_of(answer: WaitAnswer, journal: Journal) -> tuple[str, bytes]:
    """Return the hint that a process writes that asks late."""
    request = journal.wait_request(answer.name)
    assert request is not None
    place = keys.waiting(request.asked_at, journal.exec_id, answer.name, answer.number)
    return place, b"f"


def test_hints_that_the_records_contradict_are_deleted(store: MemoryStore) -> None:
    journal = start(store, "e1")
    request = ask(journal)
    store.create(keys.waiting(now(), "e1", "ok", 1), b"f")  # lost the race to ask
    store.create(keys.waiting(now(), "gone", "ok", 1), b"f")
    answer = journal.answer(WaitAnswer("ok", "value", 1))
    store.create(*hint_of(answer, journal))
    journal.refuse(answer, "not true")
    assert listed(store) == [("e1", "ok")]
    [found] = inbox(store).items
    assert (found.request, found.refused, found.flow) == (request, "not true", "f")
    assert hints(store) == [keys.waiting(request.asked_at, "e1", "ok", 2)]
    ended = start(store, "e2")
    ask(ended)
    ended.finish(EndRecord("cancelled", None, now()))
    assert len(inbox(store).items) == 1
    assert len(hints(store)) == 1


def test_a_hint_whose_question_is_about_to_be_recorded_stays(store: MemoryStore) -> None:
    start(store, "e1")
    store.create(keys.waiting(now(), "e1", "ok", 1), b"f")
    assert listed(store) == []
    assert len(hints(store)) == 1


def test_a_failed_execution_does_not_ask_until_it_is_retried(store: MemoryStore) -> None:
    journal = start(store, "e1")
    ask(journal)
    journal.set_state("failed", ErrorInfo("ValueError", "no"))
    assert listed(store) == []
    Journal.open(store, "e1").mark_running()
    assert listed(store) == [("e1", "ok")]


def test_the_newest_question_is_listed(store: MemoryStore) -> None:
    journal = start(store, "e1")
    ask(journal)
    ask(journal, question="Really?")
    assert [wait.request.question for wait in inbox(store).items] == ["Really?"]


def test_pages_and_flows(store: MemoryStore) -> None:
    for number in range(50):
        ask(start(store, f"e{number:02d}", "rare" if number % 10 == 0 else "f"))

    def pages(limit: int, flow: str | None = None, within: int = 10_000) -> list[Inbox]:
        found = [inbox(store, limit=limit, flow=flow, within=within)]
        while found[-1].next is not None:
            after = found[-1].next
            found.append(inbox(store, limit=limit, flow=flow, within=within, after=after))
        return found

    for limit in (1, 7, 20, 25, 50, 60):
        whole = [wait.exec_id for page in pages(limit) for wait in page.items]
        assert whole == [f"e{number:02d}" for number in range(50)]
        assert all(len(page.items) == limit for page in pages(limit)[:-1])
    rare = [wait.exec_id for page in pages(2, "rare") for wait in page.items]
    assert rare == ["e00", "e10", "e20", "e30", "e40"]
    few = pages(20, "rare", within=5)
    assert [page.looked_at for page in few] == [5] * 10
    assert [len(page.items) for page in few] == [1, 0] * 5


def older(store: MemoryStore) -> None:
    """Make a store like that of an earlier release, which wrote neither hints nor summaries."""
    for key in [*hints(store), keys.WAITS_LISTED]:
        store.delete(key)
    for key in store.list("x/"):
        if "/summary/" in key:
            store.delete(key)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_first_reader_lists_the_waits_of_an_older_store(fault: Fault) -> None:
    for at in range(1, 300):
        store = MemoryStore()
        ask(start(store, "e1"))
        refused = start(store, "e2")
        ask(refused)
        refused.refuse(refused.answer(WaitAnswer("ok", "value", 1)), "no")
        start(store, "e3").finish(EndRecord("cancelled", None, now()))
        older(store)
        reader = FaultyStore(store, fault, at)
        with contextlib.suppress(Killed, StoreUnavailable):
            inbox(reader)
        assert listed(store) == [("e1", "ok"), ("e2", "ok")]
        assert store.get(keys.WAITS_LISTED) is not None
        if reader.count < at:
            break
    assert at > 15


class ReadOnly(MemoryStore):
    """A store whose reader may not write."""

    is_denied = False

    def create(self, key: str, value: bytes) -> bool:
        if self.is_denied:
            raise StoreDenied("no write access")
        return super().create(key, value)

    def delete(self, *keys: str) -> None:
        if self.is_denied:
            raise StoreDenied("no write access")
        super().delete(*keys)


def test_a_reader_without_write_access_sees_an_older_store() -> None:
    store = ReadOnly()
    ask(start(store, "e1", "a"))
    ask(start(store, "e2", "b"))
    older(store)
    store.is_denied = True
    assert listed(store) == [("e1", "ok"), ("e2", "ok")]
    page = inbox(store, limit=1)
    assert page.next is not None
    assert [wait.exec_id for wait in inbox(store, after=page.next).items] == ["e2"]


def test_removed_executions_leave_no_hint(store: MemoryStore) -> None:
    journal = start(store, "e1")
    ask(journal)
    journal.set_state("failed", ErrorInfo("ValueError", "no"))
    assert [one.exec_id for one in collect(store, timedelta(0))] == ["e1"]
    assert hints(store) == []
