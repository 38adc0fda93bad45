"""Processes of one execution, their store operations in every order, one of them killed or not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kitaru.errors import WaitConflict
from kitaru.runtime.journal import Journal
from kitaru.runtime.listing import list_executions
from kitaru.stores import Store
from kitaru.stores.memory import MemoryStore
from kitaru.wire.records import EndRecord, InvocationRecord, WaitAnswer, stored_values
from kitaru.wire.times import now

from .harness import EXEC, LARGE, World, checkpoint, execution
from .schedules import Runner, every_schedule, run


def world() -> World:
    world = World(MemoryStore())
    Journal.create(world.store, execution(world.store))
    return world


def one_checkpoint(world: World, value: str) -> Runner:
    # Not `Journal.open`: reading the execution again would only make the trees larger.
    record = Journal.open(world.store, EXEC).execution
    return lambda store: checkpoint(world, Journal(store, record), "ck", value)


def held_and_agreed(world: World) -> InvocationRecord:
    world.look()
    journal = Journal.open(world.store, EXEC)
    record = journal.invocation("ck")
    assert record is not None and record.value is not None
    for value in stored_values(record):
        journal.fetch(value)
    assert {str(returned) for _, returned in world.returned} <= {str(journal.fetch(record.value))}
    return record


@pytest.mark.parametrize("kill_at", range(6))
def test_one_checkpoint_by_two_processes(kill_at: int) -> None:
    def attempt(choices: Sequence[int]) -> list[int]:
        here = world()
        runners = [one_checkpoint(here, LARGE + name) for name in "ab"]
        widths = run(here.store, runners, choices, kill_at)
        held_and_agreed(here)
        assert here.calls["ck"] in (1, 2)
        return widths

    assert every_schedule(attempt) > 5


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2), max_size=20), st.integers(0, 6))
def test_one_checkpoint_by_three_processes(choices: list[int], kill_at: int) -> None:
    here = world()
    runners = [one_checkpoint(here, name) for name in "abc"]
    run(here.store, runners, choices, kill_at)
    held_and_agreed(here)


def test_two_different_answers() -> None:
    def attempt(choices: Sequence[int]) -> list[int]:
        here, won, lost = world(), list[str](), list[str]()

        def answering(kind: str) -> Runner:
            def answer(store: Store) -> None:
                journal = Journal(store, Journal.open(here.store, EXEC).execution)
                try:
                    journal.answer(WaitAnswer("ok", kind, None, now()))  # type: ignore[arg-type]
                    won.append(kind)
                except WaitConflict:
                    lost.append(kind)

            return answer

        widths = run(here.store, [answering("value"), answering("abort")], choices, 0)
        held = Journal.open(here.store, EXEC).wait_answer("ok")
        assert held is not None and won == [held.kind]
        assert sorted(won + lost) == ["abort", "value"]
        return widths

    assert every_schedule(attempt) == 2


@pytest.mark.parametrize("kill_at", range(8))
def test_an_end_and_a_late_state(kill_at: int) -> None:
    def attempt(choices: Sequence[int]) -> list[int]:
        here = world()
        record = Journal.open(here.store, EXEC).execution

        def finish(store: Store) -> None:
            Journal(store, record).finish(EndRecord("cancelled", None, "-"))

        def zombie(store: Store) -> None:
            Journal(store, record).set_state("failed")

        widths = run(here.store, [finish, zombie], choices, kill_at)
        journal = Journal.open(here.store, EXEC)
        expected = "failed" if journal.end() is None else "cancelled"
        assert journal.state().status == expected
        assert [item["status"] for item in list_executions(here.store)] == [expected]
        return widths

    assert every_schedule(attempt) > 3
