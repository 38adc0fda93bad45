"""Signals: numbered, never lost, returned once, and the same on every resume and target."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from kitaru_targets import registry

import kitaru
from kitaru import KitaruClient, aio, checkpoint, errors, flow
from kitaru.runtime.journal import inboxes
from kitaru.runtime.journal.inboxes import InboxReader, Reading, create
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.stores.memory import MemoryStore
from kitaru.wire import keys
from kitaru.wire.records import LaunchRecord, SignalRecord
from tests.waiting import forget_runs

EXEC = "steered"


@checkpoint(cache=False)
def work(notes: list[Any]) -> list[Any]:
    return notes


@flow
def steered() -> list[Any]:
    before = work(kitaru.inbox("steer"))
    kitaru.wait(name="ok")
    between = [work(kitaru.inbox("steer")), kitaru.inbox("stop"), kitaru.inbox("steer")]
    kitaru.wait(name="again")
    return [before, between, kitaru.inbox("steer")]


def waiting(client: KitaruClient) -> None:
    assert steered.options(store=client.store, exec_id=EXEC).run().settle(60) == "waiting"


def test_a_signal_is_returned_once_and_recorded() -> None:
    client = KitaruClient()
    waiting(client)
    sent = [client.executions.signal(EXEC, "steer", value) for value in ({"a": [1]}, "b")]
    sent.append(client.executions.signal(EXEC, "stop", None))
    assert [(one.inbox, one.number) for one in sent] == [("steer", 1), ("steer", 2), ("stop", 1)]
    client.executions.input(EXEC, True, "ok").settle(60)
    client.executions.signal(EXEC, "steer", 3)
    forget_runs()
    # Another process replays the body. It sees what the records contain.
    assert client.executions.input(EXEC, True, "again").wait(60) == [
        [],
        [[{"a": [1]}, "b"], [None], []],
        [3],
    ]
    read = [(one.inbox, one.value, one.read_by) for one in client.executions.get(EXEC).signals]
    assert read == [
        ("steer", {"a": [1]}, "inbox_steer_2"),
        ("steer", "b", "inbox_steer_2"),
        ("stop", None, "inbox_stop"),
        ("steer", 3, "inbox_steer_4"),
    ]
    assert client.executions.get(EXEC).to_dict()["signals"][0]["by"]


def test_an_execution_that_has_ended_takes_no_signal() -> None:
    client = KitaruClient()
    waiting(client)
    client.executions.cancel(EXEC)
    with pytest.raises(errors.StateError, match="is cancelled; it reads no more signals"):
        client.executions.signal(EXEC, "steer", 1)
    with pytest.raises(errors.NotFound):
        client.executions.signal("absent-1m8phf8y9", "steer", 1)
    assert client.executions.get(EXEC).signals == []


@pytest.mark.parametrize(
    ("inbox", "value"),
    [("no name", 1), ("steer", {1, 2}), ("steer", float("nan")), ("steer", "x" * 300_000)],
)
def test_what_cannot_be_sent_is_refused(inbox: str, value: Any) -> None:
    client = KitaruClient()
    waiting(client)
    with pytest.raises(errors.UsageError):
        client.executions.signal(EXEC, inbox, value)
    assert client.executions.get(EXEC).signals == []


def test_an_end_during_the_sending_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    client = KitaruClient()
    waiting(client)

    def late(*given: Any) -> SignalRecord:
        client.executions.cancel(EXEC)
        return create(*given)

    monkeypatch.setattr("kitaru.ops.signal.create", late)
    with pytest.raises(errors.StateError, match="reads no more signals"):
        client.executions.signal(EXEC, "steer", 1)


def test_an_execution_whose_first_step_has_not_begun_takes_signals() -> None:
    client = KitaruClient()
    RecordStore(client.store).write(keys.launch(EXEC), LaunchRecord("steered", {}))
    assert client.executions.signal(EXEC, "steer", "early").number == 1
    waiting(client)
    found = client.executions.get(EXEC).signals
    assert [(one.value, one.read_by) for one in found] == [("early", "inbox_steer")]


@pytest.mark.parametrize("is_stale", [False, True])
def test_racing_senders_leave_no_gap_and_lose_nothing(is_stale: bool) -> None:
    class Stale(MemoryStore):
        """A store whose lists lack the newest objects."""

        def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[str]:
            found = super().list(prefix, after=after, limit=limit)
            return found[:-3] if is_stale and "/inbox/" in prefix else found

    client = KitaruClient(Stale("memory:racing"))
    waiting(client)
    numbers: list[int] = []

    def send(sender: int) -> None:
        for number in range(20):
            sent = client.executions.signal(EXEC, "steer", [sender, number])
            numbers.append(sent.number)

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 161))
    client.executions.input(EXEC, True, "ok").settle(60)
    result = client.executions.input(EXEC, True, "again").wait(60)
    got = result[1][0]
    assert sorted(got) == [[sender, number] for sender in range(8) for number in range(20)]
    # Those of one sender arrive in their order.
    assert all([n for s, n in got if s == sender] == list(range(20)) for sender in range(8))


def test_more_than_one_call_returns_is_left_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inboxes, "_MOST", 3)
    client = KitaruClient()
    waiting(client)
    for number in range(7):
        client.executions.signal(EXEC, "steer", number)
    client.executions.input(EXEC, True, "ok").settle(60)
    result = client.executions.input(EXEC, True, "again").wait(60)
    assert result == [[], [[0, 1, 2], [], [3, 4, 5]], [6]]


def test_a_read_that_was_not_recorded_is_made_again() -> None:
    store = MemoryStore("memory:unrecorded")
    waiting(KitaruClient(store))
    journal = Journal.open(store, EXEC)
    for value in ("a", "b", "c"):
        create(store, EXEC, SignalRecord("steer", 0, value, "2026-11-30T00:00:00.000000Z"))
    assert InboxReader(journal, "steer").take(Reading(), [])[1] == ["a", "b", "c"]
    reader, reading = InboxReader(journal, "steer"), Reading()
    reader.take(reading, [])
    assert reader.take(Reading(), []) == ([], [])
    # Another process recorded this call first, and read fewer signals.
    reader.settle(reading, {"execution": EXEC, "numbers": [1, 3], "values": ["a", "c"]})
    cancelled = Reading()
    assert reader.take(cancelled, []) == ([2], ["b"])
    reader.settle(cancelled, None)
    # A read on a thread may end after its task was cancelled.
    assert reader.take(cancelled, []) == ([2], ["b"])
    assert reader.take(Reading(), []) == ([2], ["b"])


def test_tasks_that_read_at_once_share_the_signals() -> None:
    @flow
    async def shared() -> list[Any]:
        async def reader() -> list[Any]:
            found = await aio.inbox("steer")
            await asyncio.sleep(0)
            return [*found, *(await aio.inbox("steer"))]

        await aio.wait(name="ok")
        return list(await asyncio.gather(*[reader() for _ in range(3)]))

    client = KitaruClient()
    handle = shared.options(exec_id=EXEC).run()
    assert handle.settle(60) == "waiting"
    for number in range(5):
        client.executions.signal(EXEC, "steer", number)
    found = client.executions.input(EXEC, True, "ok").wait(60)
    assert sorted(one for task in found for one in task) == [0, 1, 2, 3, 4]


def test_a_cancelled_read_leaves_the_signals_to_the_next() -> None:
    @flow
    async def cancelling() -> list[Any]:
        await aio.wait(name="ok")
        task = asyncio.ensure_future(aio.inbox("steer"))
        await asyncio.sleep(0)
        task.cancel()
        found = []
        with suppress(asyncio.CancelledError):
            found = await task
        return [*found, *(await aio.inbox("steer"))]

    client = KitaruClient()
    handle = cancelling.options(exec_id=EXEC).run()
    assert handle.settle(60) == "waiting"
    client.executions.signal(EXEC, "steer", 1)
    assert client.executions.input(EXEC, True, "ok").wait(60) == [1]


def test_a_replay_has_an_inbox_of_its_own() -> None:
    client = KitaruClient()
    waiting(client)
    client.executions.signal(EXEC, "steer", "old")
    client.executions.input(EXEC, True, "ok").settle(60)
    client.executions.input(EXEC, True, "again").wait(60)
    replayed = steered.replay(EXEC, start="again")
    assert replayed.settle(60) == "waiting"
    # It has reused the read of its source, and its own inbox is numbered from 1.
    client.executions.signal(replayed.exec_id, "steer", "new")
    result = client.executions.input(replayed.exec_id, True, "again").wait(60)
    assert result == [[], [["old"], [], []], ["new"]]
    same = client.executions.replay(EXEC, reuse_unchanged=True)
    assert same.wait(60) == [[], [["old"], [], []], []]


def test_it_is_a_call_of_the_flow_not_of_a_checkpoint() -> None:
    @checkpoint
    def looks() -> list[Any]:
        return kitaru.inbox("steer")

    @flow
    def inside() -> list[Any]:
        return looks()

    with pytest.raises(errors.CheckpointFailed, match=r"kitaru\.inbox was used inside"):
        inside.run().wait(60)
    with pytest.raises(errors.ContextError):
        kitaru.inbox("steer")


SOURCE = """\
import kitaru
from kitaru import checkpoint, flow


@checkpoint
def work(notes):
    return notes


@flow
def steered():
    before = work(kitaru.inbox("steer"))
    kitaru.wait(name="ok")
    done = []
    for _ in range(2):
        notes = work(kitaru.inbox("steer"))
        if notes:
            done.append(notes)
    return [before, done, work(kitaru.inbox("stop")), kitaru.inbox("steer")]
"""


@pytest.mark.parametrize("target", registry.names())
def test_every_target_reads_the_same(target: str) -> None:
    Path("flows.py").write_text(SOURCE)
    client = KitaruClient()
    view = client.dry_run("flows.py", {}, target)
    assert view.status == "waiting"
    for inbox, value in (("steer", 1), ("stop", {"now": True}), ("steer", [2])):
        client.executions.signal(view.exec_id, inbox, value)
    done = client.executions.dry_run(view.exec_id, answers={"ok": True})
    assert done.result == [[], [[1, [2]]], [{"now": True}], []]
    reads = [one.id for one in done.invocations if one.kind == "inbox"]
    assert reads == ["inbox_steer", "inbox_steer_2", "inbox_steer_3", "inbox_stop", "inbox_steer_4"]
