"""Sleeps, recorded times and waits that expire: in one process, in the next one, and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, errors, flow
from kitaru.handle import Handle
from kitaru.ops.dispatch import Dispatcher, due
from kitaru.ops.resume import resume
from kitaru.runtime.engine import timers
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store
from kitaru.wire import keys
from kitaru.wire.records import WaitAnswer
from kitaru.wire.times import later, now
from tests.waiting import forget_runs, wait_until

DAY = timedelta(days=1)
PAST = datetime(2020, 1, 1, tzinfo=UTC)


@checkpoint
def note(text: str) -> str:
    with Path("calls.txt").open("a") as file:
        file.write(text + "\n")
    return text


@flow
def asking(deadline: Any = None, default: Any = None) -> str:
    more = {} if default is None else {"default": default}
    try:
        answer = kitaru.wait(name="ok", schema=str, deadline=deadline, **more)
    except errors.WaitExpiredError as error:
        return note(str(error).partition(":")[0])
    return answer


@flow
def strict() -> bool:
    return bool(kitaru.wait(name="ok", deadline=DAY))


@flow
def napping(seconds: float = 0.0) -> list[str]:
    start = kitaru.now()
    note("before")
    kitaru.sleep(seconds)
    kitaru.sleep(until=PAST, name="already")
    note("after")
    return [start.isoformat(), kitaru.now().isoformat()]


def _parked(deadline: Any = DAY, default: Any = None) -> tuple[Handle[Any], Journal]:
    handle = asking.run(deadline, default)
    assert handle.settle() == "waiting"
    return handle, Journal.open(open_store(os.environ["KITARU_STORE"]), handle.exec_id)


def _pass_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two days pass for every reader of a deadline."""
    from kitaru.runtime.journal import journal

    monkeypatch.setattr(journal, "now", lambda: later(now(), 2 * 86400))


def test_a_sleep_and_the_time_are_recorded(store: str) -> None:
    handle = napping.run(0.01)
    start, end = map(datetime.fromisoformat, handle.wait())
    assert start.tzinfo is not None and start <= end
    view = KitaruClient().executions.get(handle.exec_id)
    assert [(one.id, one.kind) for one in view.invocations if one.kind != "checkpoint"] == [
        ("now", "now"), ("sleep", "wait"), ("already", "wait"), ("now_2", "now"),
    ]  # fmt: skip
    assert open_store(store).list(keys.DUE) == []
    replayed = napping.replay(handle.exec_id, start="note_2").wait()
    assert replayed[0] == start.isoformat()


def test_an_expired_wait_has_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    handle, journal = _parked(default="nobody")
    _pass_deadline(monkeypatch)
    assert handle.wait() == "nobody"
    assert [(one.kind, one.value) for one, _ in journal.each_answer()] == [("expired", "nobody")]


def test_an_expired_wait_without_default_raises_in_each_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    handle, journal = _parked()
    _pass_deadline(monkeypatch)
    said = handle.wait()
    assert said == f'The wait "ok" of execution {handle.exec_id} expired'
    replayed = asking.replay(handle.exec_id, start="note")
    assert replayed.wait() == said
    record = journal.invocation("ok")
    assert record is not None and record.status == "failed"
    assert (tmp_path / "calls.txt").read_text().splitlines() == [said, said]


def test_a_failed_flow_fails_again_with_the_recorded_expiry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handle = strict.run()
    handle.settle()
    _pass_deadline(monkeypatch)
    for _ in range(2):
        with pytest.raises(errors.FlowError) as raised:
            handle.wait()
        assert isinstance(raised.value.__cause__, errors.WaitExpiredError)
        handle = KitaruClient().executions.retry(handle.exec_id)


def test_an_answer_before_the_deadline_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    handle, journal = _parked(default="nobody")
    KitaruClient().executions.input(handle.exec_id, "me", wait="ok")
    _pass_deadline(monkeypatch)
    assert handle.wait() == "me"
    assert journal.expire_due() == []
    assert journal.store.list(keys.DUE) == []


def test_a_late_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    handle, _ = _parked(default="nobody")
    forget_runs()
    _pass_deadline(monkeypatch)
    with pytest.raises(errors.WaitConflict, match="expired without an answer, at 20"):
        KitaruClient().executions.input(handle.exec_id, "late", wait="ok")


def test_the_deadline_of_the_first_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    handle, journal = _parked(default="nobody")
    first = journal.wait_request("ok")
    forget_runs()
    again = KitaruClient().executions.resume(handle.exec_id)
    assert again.settle() == "waiting"
    assert first is not None and journal.wait_request("ok") == first
    (hint,) = journal.store.list(keys.DUE)
    assert hint == keys.due_timer(handle.exec_id, "ok", 1, first.deadline)


def test_a_refused_answer_leaves_the_deadline_in_force() -> None:
    handle, journal = _parked()
    request = journal.wait_request("ok")
    assert request is not None
    forget_runs()
    held = journal.answer(WaitAnswer("ok", "value", "bad", now()))
    journal.refuse(held, "too short")
    assert journal.store.list(keys.DUE) == [
        keys.due_timer(handle.exec_id, "ok", 2, request.deadline)
    ]
    assert journal.expire(request).number == 2


def test_escalations_are_recorded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    @flow
    def escalating() -> bool:
        steps = [(0, "the team lead"), (2 * DAY, "the head")]
        return bool(kitaru.wait(name="ok", deadline=3 * DAY, default=False, escalate=steps))

    handle = escalating.run()
    handle.settle()
    store = open_store(os.environ["KITARU_STORE"])
    assert len(store.list(keys.DUE)) == 3
    for _ in range(2):
        Dispatcher(store).once()
    (wait,) = KitaruClient().executions.get(handle.exec_id).waits_as_json()
    assert [one["to"] for one in wait["escalations"]] == ["the team lead"]
    assert wait["deadline"] > now()
    assert len(store.list(keys.DUE)) == 2
    assert due(store).hints == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda: kitaru.sleep(),
        lambda: kitaru.sleep(1, until=PAST),
        lambda: kitaru.sleep(-1),
        lambda: kitaru.sleep(float("nan")),
        lambda: kitaru.sleep(True),
        lambda: kitaru.sleep("1"),  # type: ignore[arg-type]
        lambda: kitaru.sleep(PAST),  # type: ignore[arg-type]
        lambda: kitaru.sleep(until=60),  # type: ignore[arg-type]
        lambda: kitaru.sleep(until=datetime(2030, 1, 1)),
        lambda: kitaru.sleep(10**12),
        lambda: kitaru.wait(deadline=-timedelta(seconds=1)),
        lambda: kitaru.wait(deadline=datetime(2030, 1, 1)),
        lambda: kitaru.wait(default=True),
        lambda: kitaru.wait(deadline=1, default="yes"),
        lambda: kitaru.wait(deadline=1, default=object()),
        lambda: kitaru.wait(deadline=1, escalate=["the head"]),  # type: ignore[list-item]
        lambda: kitaru.wait(deadline=1, escalate=[(1, "")]),
    ],
)
def test_wrong_times_are_refused(call: Callable[[], object]) -> None:
    @flow
    def wrong() -> None:
        call()

    with pytest.raises(errors.FlowError) as raised:
        wrong.run().wait()
    assert isinstance(raised.value.__cause__, errors.UsageError)
    assert raised.value.__cause__.help


def test_times_of_all_zones_are_the_same_moment() -> None:
    east = datetime(2030, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    assert timers.deadline_of("it", east) == "2030-01-01T00:00:00.000000Z"


def test_only_the_body_of_a_flow_sleeps() -> None:
    @checkpoint
    def inside() -> None:
        kitaru.sleep(1)

    @flow
    def wrong() -> None:
        inside()

    with pytest.raises(errors.CheckpointFailed) as raised:
        wrong.run().wait()
    assert isinstance(raised.value.__cause__, errors.ContextError)


def test_nobody_answers_a_sleep() -> None:
    handle = napping.run(86400)
    client = KitaruClient()
    wait_until(lambda: client.executions.get(handle.exec_id).status == "sleeping")
    view = client.executions.get(handle.exec_id)
    assert (view.waits, [one.name for one in view.timers]) == ((), ["sleep"])
    assert client.executions.list(status="sleeping")[0].exec_id == handle.exec_id
    with pytest.raises(errors.StateError, match="is a sleep until"):
        client.executions.input(handle.exec_id, True, wait="sleep")
    client.executions.cancel(handle.exec_id)
    with pytest.raises(errors.StateError, match="cancelled"):
        handle.wait()


SCRIPT = """
import kitaru
from kitaru import checkpoint, flow

@checkpoint
def note(text):
    with open("calls.txt", "a") as file:
        file.write(text + "\\n")
    return text

@flow
def nap():
    note("before")
    kitaru.sleep(SECONDS)
    return note("after")
"""


def _started(folder: Path, seconds: float, store: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start a flow in a process of its own; return it when the execution sleeps."""
    (folder / "naps.py").write_text(SCRIPT.replace("SECONDS", str(seconds)))
    command = [sys.executable, "-m", "kitaru", "run", "naps.py", "--store", store]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
    client = KitaruClient(store)
    wait_until(lambda: [one for one in client.executions.list() if one.status == "sleeping"])
    return process, client.executions.list()[0].exec_id


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def _expired(store: str, exec_id: str) -> None:
    """Let a sleep of a day end now, as if the day had passed: its deadline is answered."""
    journal = Journal.open(open_store(store), exec_id)
    (request,) = journal.pending_requests()
    journal.expire(request)


def test_a_killed_process_does_not_sleep_again(store: str, tmp_path: Path) -> None:
    process, exec_id = _started(tmp_path, 86400, store)
    _kill(process)
    _expired(store, exec_id)
    assert resume(open_store(store), exec_id).handle.wait() == "after"
    assert (tmp_path / "calls.txt").read_text().split() == ["before", "after"]


def test_a_dispatcher_continues_the_flow_of_a_killed_process(store: str, tmp_path: Path) -> None:
    process, exec_id = _started(tmp_path, 4, store)
    _kill(process)
    opened = open_store(store)
    dispatcher = Dispatcher(opened)
    client = KitaruClient(store)

    def has_ended() -> bool:
        dispatcher.look()
        return client.executions.get(exec_id).status.is_finished and not opened.list(keys.DUE)

    try:
        wait_until(has_ended)
    finally:
        dispatcher.close()
    assert client.executions.get(exec_id).result == "after"
    assert (tmp_path / "calls.txt").read_text().split() == ["before", "after"]
