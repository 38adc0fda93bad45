"""Faults at store operations of flows with every feature, followed by a resume.

This runs a part of `python -m tests.fire faults`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kitaru.errors import KitaruError
from kitaru.runtime.journal import blobs, record_store
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import Store, open_store
from kitaru.stores.memory import MemoryStore

from .faults import Far, Schedule, random_schedule, single_faults
from .flows import USES

EACH = 7


@pytest.mark.parametrize("use", USES)
def test_one_fault(use: str) -> None:
    met: list[str] = []
    for number, schedule in enumerate(single_faults(use, MemoryStore())):
        if number % EACH == 0:
            met += schedule.run(MemoryStore()).met
    assert len(met) > 15 and len(set(met)) > 3


@pytest.mark.parametrize("start", range(0, 60, 20))
def test_many_faults(start: int) -> None:
    met = [len(random_schedule(seed).run(MemoryStore()).met) for seed in range(start, start + 20)]
    # Threads decide which operations happen. Most of these schedules meet a fault.
    assert sum(met) > 10


@pytest.mark.parametrize("use", ["wait", "fan-out", "failed, then retry"])
def test_one_fault_where_records_are_read_in_segments(use: str) -> None:
    store = Far()
    Schedule(use, ()).run(store)
    assert any("/segment/" in key for key in store.list("x/"))
    some = list(single_faults(use, Far()))[::EACH]
    assert sum(len(schedule.run(Far()).met) for schedule in some) > 15


def test_many_faults_on_a_disk(on_disk: Path) -> None:
    for seed in range(1000, 1008):
        store = open_store(f"sqlite:{on_disk}/{seed}.db")
        random_schedule(seed).run(store)
        store.close()


def test_a_schedule_is_the_text_that_the_command_takes() -> None:
    for schedule in map(random_schedule, range(50)):
        assert Schedule.parse(str(schedule)) == schedule
    assert str(Schedule("wait", ({12: "crash after", 40: "conflict"}, {3: "denied"}))) == (
        "wait/12:crash after,40:conflict/3:denied"
    )


# Ways to be wrong that only a fault shows


def exists_is_an_error(store: Store, key: str, data: bytes) -> bytes:
    assert store.create(key, data), "I4: it exists"
    return data


def unmarked(store: Store, key: str, data: bytes) -> bytes:
    store.create(key, data)
    return data


@pytest.mark.parametrize(
    ("place", "name", "wrong", "use", "fault", "broken"),
    [
        (record_store, "create_or_read", exists_is_an_error, "cache", "conflict", "I4"),
        (blobs, "create_or_read", unmarked, "memory", "conflict", "I3"),
        (Journal, "outcome_or_end", lambda journal, id: None, "wait", "crash before", "I6"),
    ],
)
def test_the_harness_sees_it(
    place: object,
    name: str,
    wrong: object,
    use: str,
    fault: str,
    broken: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    schedules = [
        one for one in single_faults(use, MemoryStore()) if fault in one.processes[0].values()
    ]
    monkeypatch.setattr(place, name, wrong)
    # Threads decide which operation gets a number, so one pass may miss the few that matter.
    assert any(found(schedule, broken) for _ in range(20) for schedule in schedules)


def found(schedule: Schedule, broken: str) -> bool:
    try:
        schedule.run(MemoryStore())
    except AssertionError as error:
        return broken in str(error)
    except KitaruError:
        # The wrong code may leave a store that cannot be read. Another schedule must show it.
        return False
    return False
