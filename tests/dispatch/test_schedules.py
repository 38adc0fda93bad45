"""Schedules: their cron expressions, and their ticks in real and in virtual time."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from kitaru.client import KitaruClient
from kitaru.errors import InputError, NotFound, StateError, UsageError
from kitaru.ops import schedules
from kitaru.ops.dispatch import Dispatcher, due
from kitaru.runtime.journal import launches
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.stores import open_store
from kitaru.stores.base import Store
from kitaru.wire import keys
from kitaru.wire.cron import (
    check_cron,
    check_timezone,
    instants,
    newest_instants,
)
from kitaru.wire.records import EndRecord, ScheduleEntry
from kitaru.wire.times import later, now, written
from tests.dispatch.schedules import play
from tests.dispatch.world import KINDS
from tests.waiting import attempts, wait_until

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "schedules.md"
SEEDS = 16
BEGIN = "2026-11-30T12:00:30.000000Z"
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")


def table(heading: str) -> list[list[str]]:
    """Return the rows of the table below a heading of the page."""
    section = PAGE.read_text("utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]


# Cron expressions


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("61 * * * *", "minute"),
        ("0 0 30 2 *", "day of month"),
        ("0 0 31 2,4 *", "day of month"),
        ("*/90 * * * *", "too large"),
        ("0 */24 * * *", "too large"),
        ("0 2 * * FRI-MON", "day of week"),
        ("0 2 * *", "five fields"),
        ("0 0 2 * * *", "five fields"),
        ("@daily", "five fields"),
        ("", "five fields"),
        ("x" * 5_000, "five fields"),
        ("\u0661 * * * *", "minute"),
    ],
)
def test_a_wrong_expression_is_refused(wrong: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        check_cron(wrong)
    assert caught.value.help and len(caught.value.message) < 400


@pytest.mark.parametrize("wrong", ["Europe/Berln", "", "../etc/passwd", "/UTC", "localtime", "a\0"])
def test_a_wrong_zone_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match="not a time zone"):
        check_timezone(wrong)


def in_zone(day: str, cron: str, zone: str, count: int) -> list[str]:
    """Return the first instants of a day, as times of the wall with their offset."""
    begin = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    found = islice(instants(cron, zone, later(written(begin), -1)), count)
    local = (datetime.fromisoformat(one).astimezone(ZoneInfo(zone)) for one in found)
    return [f"{one:%H:%M} {one:%z}"[:9] for one in local if f"{one:%Y-%m-%d}" == day]


@pytest.mark.parametrize("row", table("Daylight saving time"), ids=lambda row: " ".join(row[:2]))
def test_the_table_of_daylight_saving_time_is_true(row: list[str]) -> None:
    cron, day, wanted = row
    assert ", ".join(in_zone(day, cron, "Europe/Berlin", 100)) == wanted


FIELDS = st.tuples(
    st.sampled_from(["0", "7", "30", "59", "*/15", "5,35", "*"]),
    st.sampled_from(["0", "2", "3", "1-4", "*", "*/6", "23"]),
    st.sampled_from(["*", "1", "15", "28-31"]),
    st.sampled_from(["*", "3", "10", "2,11"]),
    st.sampled_from(["*", "SUN", "MON-FRI", "6"]),
)
MOMENTS = st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1))


@settings(max_examples=150, deadline=None)
@given(FIELDS, MOMENTS)
def test_two_libraries_agree_in_utc(fields: tuple[str, ...], moment: datetime) -> None:
    start = moment.replace(microsecond=0, tzinfo=UTC)
    # Debian's cron requires both fields of days if one begins with a star. Here one always does.
    cron = " ".join(fields if "*" in fields[2] + fields[4] else (*fields[:4], "*"))
    other = croniter(cron, start)
    wanted = [written(other.get_next(datetime)) for _ in range(5)]
    assert list(islice(instants(cron, "UTC", written(start)), 5)) == wanted


@settings(max_examples=150, deadline=None)
@given(FIELDS, MOMENTS, st.sampled_from(ZONES), st.integers(1, 200_000))
def test_an_instant_does_not_depend_on_where_the_search_begins(
    fields: tuple[str, ...], moment: datetime, zone: str, seconds: int
) -> None:
    cron, start = " ".join(fields), written(moment.replace(tzinfo=UTC))
    end = later(start, 400_000)

    def between(begin: str) -> list[str]:
        found = []
        for one in instants(cron, zone, begin):
            if one > end:
                break
            found.append(one)
        return found

    whole, middle = between(start), later(start, seconds)
    assert between(middle) == [one for one in whole if one > middle]
    assert newest_instants(cron, zone, start, end, 3) == whole[-3:]
    assert whole == sorted(set(whole))


# The log of a schedule


class Clock:
    """The clock of a dispatcher, and the version that the tag of its flow has."""

    def __init__(self) -> None:
        self.now = BEGIN
        self.version: int | None = 1
        self.refused = ""

    def get(self, name: str) -> Any:
        if self.version is None:
            raise NotFound(f"{name} has no such tag")
        return SimpleNamespace(flow="flow", number=self.version)

    def checked(self, store: Store, found: Any, inputs: Any) -> dict[str, Any]:
        if self.refused:
            raise InputError(self.refused)
        return dict(inputs)


@pytest.fixture
def clock() -> Any:
    made = Clock()
    with (
        patch.object(schedules, "now", lambda: made.now),
        patch.object(schedules, "Deployments", lambda store: made),
        patch.object(schedules, "_checked_inputs", made.checked),
        patch.object(schedules, "cancels_of", lambda *_: {}),
    ):
        yield made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:{tmp_path}/kitaru.db")


def fire(store: Store, clock: Clock, moment: str) -> list[ScheduleEntry]:
    """Let a dispatcher look at a moment."""
    clock.now = moment
    limit = written(datetime.fromisoformat(moment))
    hints = [
        hint
        for hint in store.list(keys.DUE)
        if keys.due_schedule(hint.split("/")[2])
        and keys.due_parts(hint)[0] <= datetime.fromisoformat(limit).timestamp() * 1e6
    ]
    return schedules.fire(store, "flow", hints) if hints else []


def end(store: Store, exec_id: str) -> None:
    RecordStore(store).write(keys.end(exec_id), EndRecord("completed", None, BEGIN))


def create(store: Store, **more: Any) -> schedules.Schedule:
    return schedules.create_schedule(store, "flow@stable", "*/10 * * * *", **more)


@pytest.mark.parametrize("row", table("Missed ticks"), ids=lambda row: " ".join(row[:2]))
def test_the_table_of_missed_ticks_is_true(row: list[str], store: Store, clock: Clock) -> None:
    """A tick every ten minutes, and a dispatcher that looks first at a time of the clock."""
    catchup, looks, wanted, skipped = row
    create(store, catchup=catchup, overlap="allow")
    found, moment = list[ScheduleEntry](), f"2026-11-30T{looks}:30.000000Z"
    for _ in attempts():
        new = fire(store, clock, moment)
        if not new:
            break
        found += new
    started = [one.instant[11:16] for one in found if one.decision == "start"]
    assert (", ".join(started) or "none") == wanted
    assert sum(one.skipped for one in found) == int(skipped)
    assert store.list(keys.DUE)[-1].startswith(f"due/{_micro('2026-11-30T' + _next(looks))}")


def _next(looks: str) -> str:
    hour, minute = map(int, looks.split(":"))
    minute += 10 - minute % 10
    return f"{hour + minute // 60:02d}:{minute % 60:02d}:00.000000Z"


def _micro(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1e6)


@pytest.mark.parametrize("row", table("Overlap"), ids=lambda row: row[0])
def test_the_table_of_overlap_is_true(row: list[str], store: Store, clock: Clock) -> None:
    """The execution of 12:10 runs at 12:20 and has ended at 12:25."""
    overlap, at_20, at_25 = row
    create(store, overlap=overlap)
    cancelled = []

    def cancel(store: Store, exec_id: str) -> None:
        cancelled.append(exec_id)
        end(store, exec_id)

    with patch.object(schedules, "cancel", cancel):
        (first,) = fire(store, clock, "2026-11-30T12:10:05.000000Z")
        # Its first step has begun, so it can be cancelled.
        store.create(keys.execution(first.exec_id), b"")
        with patch.object(RecordStore, "read", _reads_no_execution(RecordStore.read)):
            (second,) = fire(store, clock, "2026-11-30T12:20:05.000000Z")
            end(store, first.exec_id)
            third = fire(store, clock, "2026-11-30T12:25:00.000000Z")
    assert second.decision == at_20.split()[0].strip(",")
    assert (third[0].decision if third else "nothing") == at_25
    assert cancelled == ([first.exec_id] if overlap == "cancel" else [])


def _reads_no_execution(read: Any) -> Any:
    def reading(self: RecordStore, kind: Any, key: str) -> Any:
        return None if key.endswith("/execution") else read(self, kind, key)

    return reading


def test_a_tick_starts_the_version_that_the_tag_has_then(store: Store, clock: Clock) -> None:
    create(store, inputs={"topic": "tea"}, overlap="allow")
    (first,) = fire(store, clock, "2026-11-30T12:10:01.000000Z")
    clock.version = 2
    (second,) = fire(store, clock, "2026-11-30T12:20:01.000000Z")
    clock.version = None
    (third,) = fire(store, clock, "2026-11-30T12:30:01.000000Z")
    clock.version, clock.refused = 3, "The input city is missing."
    (fourth,) = fire(store, clock, "2026-11-30T12:40:01.000000Z")
    assert [first.deployment, second.deployment] == [1, 2]
    assert first.exec_id == "flow-20261130t1210z"
    launch = launches.recall(store, first.exec_id)
    assert launch is not None
    assert (launch.inputs, launch.tag, launch.schedule) == ({"topic": "tea"}, "stable", "flow")
    assert (third.decision, fourth.decision) == ("fail", "fail")
    assert fourth.why == "The input city is missing."
    shown = schedules.get_schedule(store, "flow")
    assert [one.decision for one in shown.runs] == ["fail", "fail", "start", "start"]
    assert schedules.Schedule.from_dict(shown.to_dict()).to_dict() == shown.to_dict()


def test_a_change_decides_what_was_due_before(store: Store, clock: Clock) -> None:
    create(store)
    clock.now = "2026-11-30T12:10:00.000000Z"
    paused = schedules.pause_schedule(store, "flow")
    assert [one.instant for one in paused.runs] == [clock.now]
    assert paused.next == () and schedules.next_ticks(store, "flow", 1)
    (hint,) = [
        one for one in store.list(keys.DUE) if "/schedule.flow/" in one and "-00000001" in one
    ]
    assert schedules.fire(store, "flow", [hint]) == []
    assert launches.recall(store, "flow-20261130t1210z") is not None
    clock.now = "2026-11-30T13:00:01.000000Z"
    resumed = schedules.resume_schedule(store, "flow")
    assert resumed.next[0] == "2026-11-30T13:10:00.000000Z"
    assert schedules.resume_schedule(store, "flow").entry.number == resumed.entry.number


def test_a_person_starts_an_execution(store: Store, clock: Clock) -> None:
    create(store)
    schedules.pause_schedule(store, "flow")
    entry = schedules.trigger_schedule(store, "flow")
    assert entry.exec_id == "flow-run-3" and launches.recall(store, entry.exec_id) is not None
    # A dispatcher that finds the hint of a person who has not written the entry keeps it.
    hint = keys.due_tick("flow", entry.number)
    store.create(hint, b"")
    assert schedules.fire(store, "flow", [hint]) == [] and store.get(hint) is not None


def test_what_cannot_be_created(store: Store, clock: Clock) -> None:
    create(store)
    with pytest.raises(StateError, match="schedule delete flow"):
        try:
            create(store)
        except StateError as error:
            raise StateError(error.help or "") from error
    create(store, id="other")
    with pytest.raises(UsageError, match="cannot be the id"):
        create(store, id="Not valid")
    with pytest.raises(UsageError, match="overlap policy"):
        create(store, overlap="both", id="third")
    with pytest.raises(NotFound, match="no schedule"):
        schedules.get_schedule(store, "../x")
    assert [one.id for one in schedules.list_schedules(store)] == ["flow", "other"]
    schedules.delete_schedule(store, "flow")
    with pytest.raises(NotFound):
        schedules.pause_schedule(store, "flow")
    assert create(store).entry.number == 3
    hints = dict(schedules.restore_hints(store))
    assert keys.due_tick("other", 1, "2026-11-30T12:10:00.000000Z") in hints
    with pytest.raises(NotFound):
        schedules.delete_schedule(store, "flows")


FLOW = """
from kitaru import checkpoint, flow

@checkpoint
def double(number: int) -> int:
    return 2 * number

@flow
def numbers(number: int) -> int:
    return double(number)
"""


def test_a_dispatcher_runs_what_a_schedule_starts(tmp_path: Path, store: Store) -> None:
    (tmp_path / "numbers_flow.py").write_text(FLOW)
    client = KitaruClient(store)
    client.deployments.deploy(f"{tmp_path}/numbers_flow.py", "local")
    with pytest.raises(InputError):
        client.schedules.create("numbers", "0 2 * * *")
    made = client.schedules.create("numbers", "0 2 * * *", inputs={"number": 21})
    assert due(store).hints == 0, "it is due later"
    moment = later(made.next[0], 1)
    with patch.object(schedules, "now", lambda: moment):
        decided = schedules.fire(store, made.id, store.list(keys.DUE))
    Dispatcher(store).once()
    view = client.executions.get(decided[0].exec_id)
    assert (view.status, view.result) == ("completed", 42)
    assert [one.exec_id for one in client.schedules.get("numbers").runs] == [view.exec_id]


def test_dispatchers_that_are_killed_start_each_missed_tick_once(
    tmp_path: Path, store: Store
) -> None:
    (tmp_path / "numbers_flow.py").write_text(FLOW)
    client = KitaruClient(store)
    client.deployments.deploy(f"{tmp_path}/numbers_flow.py", "local")
    began = later(now(), -8 * 60)
    with patch.object(schedules, "now", lambda: began):
        client.schedules.create(
            "numbers", "* * * * *", inputs={"number": 21}, catchup="all", overlap="allow"
        )
    command = [sys.executable, "-m", "tests.dispatch.kills", "dispatch", store.url]
    chance = random.Random(1)
    for _ in range(6):
        running = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(2)]
        # Before, while and after they decide and start.
        time.sleep(chance.uniform(0.5, 3.0))
        for one in running:
            one.kill()
            one.wait()
    client.schedules.pause("numbers")
    dispatcher = Dispatcher(store)

    def is_done() -> bool:
        dispatcher._reconciled = None
        dispatcher.once()
        found = due(store)
        return not found.hints and not found.open

    wait_until(is_done)
    # The hint of the next minute stays until it is due, and then finds a paused schedule.
    parts = [keys.due_parts(hint) for hint in store.list(keys.DUE)]
    assert {keys.due_schedule(exec_id) for _, exec_id, _ in parts} <= {"numbers"}
    runs = schedules.get_schedule(store, "numbers", runs=100).runs
    assert len({one.instant for one in runs}) == len(runs) >= 8
    assert {one.decision for one in runs} == {"start"} and not any(one.skipped for one in runs)
    views = [client.executions.get(one.exec_id) for one in runs]
    assert {(view.status, view.result) for view in views} == {("completed", 42)}
    assert len(client.executions.list(limit=200)) == len(runs)


# Virtual time


def test_seeds() -> None:
    reports = [play(seed) for seed in range(SEEDS)]
    for report in reports:
        if report.failure is not None:
            raise AssertionError(f"seed {report.seed}") from report.failure
    assert {report.kind for report in reports} == set(KINDS)
    assert sum(report.runs for report in reports) > 50
    assert sum(report.kills for report in reports) > 20


_execute, _append = schedules._execute, schedules._append


def _executed_later(store: Store, entry: ScheduleEntry) -> bool:
    """Delete the hint before the entry is executed."""
    rounds_drop = schedules.rounds.drop
    for hint in store.list(keys.DUE):
        if f"/schedule.{entry.schedule}/s-{entry.number - 1:08d}" in hint:
            rounds_drop(store, hint)
    return _execute(store, entry)


def _without_hint(store: Store, entry: ScheduleEntry) -> bool:
    """Create an entry without a hint for the next one."""
    with patch.object(schedules, "_due_moment", lambda entry: None):
        return _append(store, entry)


MUTANTS: dict[str, Callable[[], list[AbstractContextManager[object]]]] = {
    "no hint for the next tick": lambda: [patch.object(schedules, "_append", _without_hint)],
    "the hint goes before the execution is recorded": lambda: [
        patch.object(schedules, "_execute", _executed_later)
    ],
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_missing_rule_is_noticed(name: str) -> None:
    assert any(play(seed, MUTANTS[name]()).failure is not None for seed in range(30))


# Schedules that `@flow` declares

DECLARED = """
from kitaru import flow

@flow({options})
def report({parameters}) -> int:
    return 1
"""


def declared(tmp_path: Path, options: str, parameters: str = "days: int = 7") -> str:
    text = DECLARED.format(options=options, parameters=parameters)
    (tmp_path / "report_flow.py").write_text(text)
    return f"{tmp_path}/report_flow.py"


NIGHTLY = 'schedule="0 2 * * *", timezone="Europe/Berlin", catchup="all"'


def test_the_schedule_of_a_flow_follows_the_tag_default(tmp_path: Path, store: Store) -> None:
    client = KitaruClient(store)
    deploy = client.deployments.deploy
    deploy(declared(tmp_path, NIGHTLY), "local")
    made = client.schedules.get("report")
    assert (made.name, made.entry.cron, made.entry.catchup) == (
        "report@default",
        "0 2 * * *",
        "all",
    )
    deploy(declared(tmp_path, NIGHTLY), "local")
    assert client.schedules.get("report").entry.number == 1, "nothing has changed"
    client.schedules.pause("report")
    deploy(declared(tmp_path, NIGHTLY.replace("0 2", "0 4")), "local", tag="canary")
    assert client.schedules.get("report").entry.cron == "0 2 * * *"
    client.deployments.tag("report@canary", "default")
    changed = client.schedules.get("report").entry
    assert (changed.cron, changed.status) == ("0 4 * * *", "paused")
    deploy(declared(tmp_path, ""), "local", tag="default")
    assert client.schedules.list() == []
    # A schedule that a person has created is not changed.
    client.schedules.create("report", "0 5 * * *")
    deploy(declared(tmp_path, "", "days: int = 8"), "local", tag="default")
    assert client.schedules.get("report").entry.cron == "0 5 * * *"
    with pytest.raises(StateError, match="schedule report of report@default already"):
        client.deployments.tag("report@v1", "default")


@pytest.mark.parametrize(
    ("options", "parameters", "why"),
    [
        ('schedule="61 * * * *"', "", "report_flow.py:4: The cron expression"),
        ('schedule="0 2 * * *", timezone="Berlin"', "", "'Berlin' is not a time zone"),
        ('timezone="Europe/Berlin"', "", "has no schedule"),
        ('schedule="0 2 * " + "* *"', "", "is not written out"),
        ('schedule="0 2 * * *"', "city: str", "its input city has no default"),
    ],
)
def test_a_declared_schedule_is_checked_when_it_is_compiled(
    tmp_path: Path, store: Store, options: str, parameters: str, why: str
) -> None:
    with pytest.raises(UsageError) as caught:
        KitaruClient(store).compile(declared(tmp_path, options, parameters), "vertex")
    assert why in caught.value.message and caught.value.help
