"""Limits of flows: their options, their places in real and in virtual time, and local runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kitaru
from kitaru import flow
from kitaru.client import KitaruClient
from kitaru.errors import KitaruError, StateError, UsageError
from kitaru.ops.dispatch import Dispatcher, due
from kitaru.ops.invoke import find, invoke
from kitaru.runtime.journal import places
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.stores import open_store
from kitaru.stores.base import Store
from kitaru.stores.memory import MemoryStore
from kitaru.wire import keys
from kitaru.wire.flow_limits import ExecutionLimits, FlowLimits, flow_limits, limit
from kitaru.wire.records import EndRecord
from kitaru.wire.times import later
from tests.dispatch.limits import play
from tests.step.programs import review
from tests.waiting import wait_until

# `python -m tests.dispatch --limits` runs others, some of which take ten seconds.
SEEDS = range(3, 10)
BEGIN = "2026-11-30T12:00:00.000000Z"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:{tmp_path}/kitaru.db")


# Options


def test_a_limit_in_words() -> None:
    assert str(limit(5)) == "5 at a time"
    assert str(limit(1, key="input.order.id")) == "1 at a time for each input.order.id"
    assert str(limit(100, per="12h")) == "100 in 12h"
    assert limit(1, per=90) == limit(1, per=timedelta(seconds=90), burst=1)


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"concurrency": True},
        {"concurrency": 1.5},
        {"concurrency": "5"},
        {"concurrency": []},
        {"concurrency": [1, 2]},
        {"concurrency": lambda: limit(1, key="customer")},
        {"concurrency": lambda: limit(1, key="input.__import__('os')")},
        {"concurrency": lambda: limit(1, key="input")},
        {"concurrency": lambda: limit(1, key="input." + "x" * 300)},
        {"concurrency": lambda: limit(1, per="1m")},
        {"concurrency": lambda: limit(1, burst=2)},
        {"concurrency": lambda: limit(1, when_full="drop")},  # type: ignore[arg-type]
        {"rate_limit": 5},
        {"rate_limit": lambda: limit(5)},
        {"rate_limit": lambda: limit(5, per="1 minute")},
        {"rate_limit": lambda: limit(5, per=0)},
        {"rate_limit": lambda: limit(5, per=float("nan"))},
        {"rate_limit": lambda: limit(5, per="9999d")},
        {"rate_limit": lambda: limit(5, per="1m", when_full="cancel")},
        {"priority": "input.urgency"},
        {"concurrency": 1, "priority": "urgency"},
    ],
)
def test_a_wrong_limit_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        given = {name: one() if callable(one) else one for name, one in options.items()}
        flow(**given)(lambda customer: customer)
    assert caught.value.help and len(caught.value.message) < 400


FLOW = """
import os, time
import kitaru
from kitaru import checkpoint, flow, limit as at_most

@checkpoint
def pull(customer: str) -> str:
    for _ in range(24_000):
        if os.path.exists("hold"):
            time.sleep(0.01)
    return customer

@flow({options})
def syncing(customer: str, urgency: int = 0) -> str:
    if customer == "asks":
        kitaru.wait(name="go", schema=bool)
    return pull(customer)
"""


def written(folder: Path, options: str) -> str:
    (folder / "syncing.py").write_text(FLOW.format(options=options))
    return f"{folder}/syncing.py"


@pytest.mark.parametrize("target", ["airflow", "kubeflow", "sagemaker", "vertex", "local"])
def test_limits_are_part_of_the_plan_of_each_target(tmp_path: Path, target: str) -> None:
    options = 'concurrency=[3, at_most(1, key="input.customer")], priority="input.urgency"'
    built = KitaruClient(open_store("memory:")).compile(written(tmp_path, options), target)
    limits = FlowLimits.from_json(built.plan.limits)
    assert limits == flow_limits([3, limit(1, key="input.customer")], None, "input.urgency")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("concurrency=2 + 1", "syncing.py:13: concurrency= of @flow is not written out"),
        ("concurrency=at_most(os.cpu_count())", "is not written out"),
        ("concurrency=at_most(1, key='input.city')", "syncing has no input city"),
        ("concurrency=at_most(1, kee='input.city')", "did you mean `key`"),
        ("concurrency=at_most()", "called without `most`"),
        ("concurrency=at_most(1, **{})", "is not written out"),
        ("rate_limit=at_most(5)", "rate_limit= has the limit 5 at a time"),
        ("concurrency=0", "syncing.py:13: 0 cannot be a limit"),
    ],
)
def test_limits_are_checked_when_a_flow_is_compiled(tmp_path: Path, options: str, why: str) -> None:
    with pytest.raises(KitaruError) as caught:
        KitaruClient(open_store("memory:")).compile(written(tmp_path, options), "vertex")
    assert why in str(caught.value)


# Places


def wanted(exec_id: str, limits: FlowLimits | None, **inputs: Any) -> places.Wanted:
    assert limits is not None
    return places.Wanted(exec_id, 1, limits.of("flow", inputs), is_start=True)


def ask(store: Store, *many: places.Wanted) -> list[bool]:
    found = places.ask(RecordStore(store), "flow", many)
    return [found[one.id] is None for one in many]


def test_one_entry_decides_about_all_limits(store: Store) -> None:
    limits = flow_limits([2, limit(1, key="input.customer.id")], None, None)
    many = [wanted(f"e{n}", limits, customer={"id": n // 2}) for n in range(6)]
    assert ask(store, *many) == [True, False, True, False, False, False]
    assert len(store.list(keys.limit_log("flow"))) == 1
    assert ask(store, *many) == [True, False, True, False, False, False], "a place is kept"
    RecordStore(store).write(keys.end("e0"), EndRecord("completed", None, BEGIN))
    assert ask(store, many[1], many[3], many[4]) == [True, False, False]
    places.leave(RecordStore(store), many[1])
    assert ask(store, many[4]) == [True]


RATES = st.tuples(st.integers(1, 5), st.integers(1, 5), st.lists(st.floats(0, 90), max_size=30))


@settings(max_examples=60, deadline=None)
@given(RATES)
def test_a_rate_limit_is_kept_in_any_time(case: tuple[int, int, list[float]]) -> None:
    most, burst, pauses = case
    store = MemoryStore()
    limits = flow_limits(None, limit(most, per=60, burst=burst), None)
    clock, started = 0.0, list[float]()
    for number, pause in enumerate([0.0, *pauses]):
        clock += pause
        with patch.object(places, "now", lambda clock=clock: later(BEGIN, clock)):
            if ask(store, wanted(f"e{number}", limits)) == [True]:
                started.append(clock)
    assert started[0] == 0.0
    for index, first in enumerate(started):
        for number, last in enumerate(started[index:], start=1):
            assert number <= burst + (last - first) * most / 60 + 0.001


def test_a_start_that_failed_costs_no_rate(store: Store) -> None:
    limits = flow_limits(None, limit(1, per="1h"), None)
    first, second = wanted("e0", limits), wanted("e1", limits)
    assert ask(store, first, second) == [True, False]
    places.leave(RecordStore(store), first)
    assert ask(store, second) == [True]


def test_priority_is_age(store: Store) -> None:
    limits = flow_limits(1, None, "input.urgency")
    assert limits is not None
    for exec_id, urgency, minutes in (("a", 0, 0), ("b", 1, 9), ("c", 1, 11), ("d", "x", 1)):
        one = wanted(exec_id, limits, urgency=urgency)
        with patch.object(places, "now", lambda minutes=minutes: later(BEGIN, 60 * minutes)):
            places.enqueue(store, one, limits.concurrency[0])
            places.enqueue(store, one, limits.concurrency[0])
    order = [keys.due_parts(key)[1] for key in store.list(keys.queue("flow"))]
    assert order == ["b", "a", "d", "c"] or order == ["b", "a", "c", "d"]
    assert ExecutionLimits.from_json(one.limits.to_json()) == one.limits


# Deployed flows


def test_executions_wait_for_places(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    client = KitaruClient(store)
    client.deployments.deploy(written(tmp_path, "concurrency=1"), "local")
    version = find(store, "syncing")
    asks = invoke(store, version, {"customer": "asks"})
    wait_until(lambda: client.executions.get(asks.handle.exec_id).status == "waiting")
    (tmp_path / "hold").touch()
    # An execution that waits has no place.
    first = invoke(store, version, {"customer": "a"})
    second = invoke(store, version, {"customer": "b"})
    third = invoke(store, version, {"customer": "c"})
    assert (second.run, second.limit, second.is_skipped) == (None, "1 at a time", False)
    assert client.executions.get(second.handle.exec_id).status == "queued"
    assert due(store).queued == {"syncing": 2} and due(store).hints == 0
    queued = [third.handle.exec_id, second.handle.exec_id]
    assert [one.exec_id for one in client.executions.list(status="queued")] == queued
    page = client.executions.page(status="queued", limit=1, flow="syncing")
    assert [one.exec_id for one in page.items] == queued[:1] and page.next == queued[0]
    after = client.executions.page(status="queued", limit=1, after=queued[0])
    assert [one.exec_id for one in after.items] == queued[1:] and after.next is None
    chosen = client.executions.page(where=["status=queued", "input.customer=b"])
    assert [one.exec_id for one in chosen.items] == queued[1:]
    assert client.executions.list(status="queued", flow="other") == []
    client.executions.cancel(third.handle.exec_id)
    assert client.executions.get(third.handle.exec_id).status == "cancelled"
    assert due(store).queued == {"syncing": 1} and due(store).hints == 0
    client.executions.input(asks.handle.exec_id, wait="go", value=True)
    assert due(store).queued == {"syncing": 2}
    (tmp_path / "hold").unlink()
    assert first.handle.wait() == "a"
    Dispatcher(store).once()
    for one in (asks, second):
        assert client.executions.get(one.handle.exec_id).status == "completed"
    assert due(store).queued == {} and not store.list(keys.QUEUE)


@pytest.mark.parametrize("policy", ["skip", "cancel"])
def test_a_policy_decides_about_one_more(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    monkeypatch.chdir(tmp_path)
    client = KitaruClient(store)
    options = f'concurrency=at_most(1, key="input.customer", when_full="{policy}")'
    client.deployments.deploy(written(tmp_path, options), "local")
    (tmp_path / "hold").touch()
    version = find(store, "syncing")
    first, second = (invoke(store, version, {"customer": "a"}) for _ in range(2))
    (tmp_path / "hold").unlink()
    assert second.is_skipped == (policy == "skip")
    ended, over = (first, second) if policy == "skip" else (second, first)
    assert ended.handle.wait() == "a"
    assert client.executions.get(over.handle.exec_id).status == "cancelled"
    end = RecordStore(store).read(EndRecord, keys.end(over.handle.exec_id))
    assert end is not None and end.by


# Local runs


@flow(concurrency=1)
def alone(number: int) -> int:
    return number


def test_a_local_run_waits_for_its_place(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "hold.py"
    script.write_text(
        "import sys, time, kitaru\n"
        "@kitaru.flow(concurrency=1, name='alone')\n"
        "def alone(number: int) -> int:\n"
        "    print('runs', flush=True)\n"
        "    time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    alone.options(store=sys.argv[1]).run(1).wait()\n"
    )
    words = [sys.executable, str(script), store.url]
    holder = subprocess.Popen(words, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"runs\n"
        waits = alone.options(store=store).run(2)
        cancelled = alone.options(store=store).run(3)
        client = KitaruClient(store)
        assert client.executions.get(waits.exec_id).status == "queued"
        listed = [one.exec_id for one in client.executions.list(status="queued")]
        assert listed == [cancelled.exec_id, waits.exec_id]
        client.executions.cancel(cancelled.exec_id)
        with pytest.raises(StateError, match="cancelled"):
            cancelled.wait()
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
    # A process that was killed has lost its place.
    assert waits.wait() == 2
    assert "waits for a place: 1 at a time" in capsys.readouterr().err


# Virtual time


@pytest.mark.parametrize("seed", SEEDS)
def test_limits_hold_with_kills_and_faults(seed: int) -> None:
    report = play(seed)
    if report.failure is not None:
        raise report.failure


MUTANTS: dict[str, Callable[[], list[AbstractContextManager[object]]]] = {
    "the queue does not get what loses its hint": lambda: [
        patch.object(places, "enqueue", lambda *_: None)
    ],
    "a closed round keeps its place": lambda: [
        patch.object(places, "_released", lambda records, holders: set())
    ],
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_missing_rule_is_noticed(name: str) -> None:
    assert any(play(seed, MUTANTS[name]()).failure is not None for seed in range(30))


def test_the_public_name() -> None:
    assert kitaru.limit(5) == limit(5)


# Runs that somebody starts in the console


def test_a_run_from_the_console_asks_in_its_first_step(tmp_path: Path) -> None:
    program = review(tmp_path)
    limits = flow_limits(limit(1, key="input.topic"), None, None)
    assert limits is not None
    plan = program.plan().replace(limits=limits.to_json())
    (tmp_path / "kitaru_build" / "plan.json").write_text(plan.to_json())

    def start(exec_id: str, topic: str) -> tuple[int, str]:
        step = program.start(program.steps[0].name, exec_id=exec_id, topic=topic)
        return step.wait(), step.communicate()[1]

    assert start("e1", "tea")[0] == 0
    assert program.journal("e1").execution.limits["limits"] == limits.to_json()
    code, said = start("e2", "tea")
    assert code != 0 and "1 at a time for each input.topic. Nothing ran" in said
    assert not program.has_begun("e2")
    assert start("e3", "milk")[0] == 0
    RecordStore(open_store(program.url)).write(keys.end("e1"), EndRecord("cancelled", None, BEGIN))
    assert start("e2", "tea")[0] == 0
