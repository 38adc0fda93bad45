"""Cancellations that arrive at any moment of a durable call; `sweep` tries many more moments."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kitaru import aio, checkpoint, flow
from kitaru.client import KitaruClient
from kitaru.runtime.engine.futures import Submitted
from kitaru.runtime.journal.journal import Journal
from kitaru.stores.memory import MemoryStore

from .sweep import BODIES, TIMED, sweep

# A cancellation that is lost makes these tests wait for ever.
LONG = 240


class Holding(MemoryStore):
    """A store that writes the record of `held` only when it may."""

    def __init__(self) -> None:
        super().__init__("memory:holding-cancelled")
        self.may_write, self.is_writing = threading.Event(), threading.Event()

    def create(self, key: str, value: bytes) -> bool:
        if "/inv/" in key and key.endswith("held"):
            self.is_writing.set()
            assert self.may_write.wait(LONG)
        return super().create(key, value)


@checkpoint(cache=False)
async def held() -> str:
    return "kept"


@checkpoint(cache=False)
async def endless() -> None:
    await asyncio.Event().wait()


@checkpoint(cache=False)
async def quick(x: Any) -> Any:
    return x


async def in_glue() -> None:
    await held()
    await asyncio.Event().wait()


async def in_calls_of_other_tasks() -> None:
    await held()
    await asyncio.gather(endless(), endless())


async def in_a_task_that_ends() -> None:
    await asyncio.create_task(one_call())
    await asyncio.Event().wait()


async def in_one_of_several() -> None:
    await asyncio.gather(one_call(), endless())


async def in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(one_call())
        group.create_task(endless())  # type: ignore[arg-type]


async def in_a_loop_over_a_queue() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()
    queue.put_nowait(1)
    while True:
        await queue.get()
        await held()


async def one_call() -> str:
    found: str = await held()
    return found


@pytest.mark.parametrize(
    "part",
    [
        in_glue, in_calls_of_other_tasks, in_a_task_that_ends, in_one_of_several, in_a_group,
        in_a_loop_over_a_queue,
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_limited", [False, True])
def test_a_cancellation_while_a_record_is_written_arrives_later(
    part: Callable[[], Awaitable[None]], is_limited: bool
) -> None:
    store = Holding()

    @flow
    async def cancelled() -> Any:
        async def write() -> None:
            await asyncio.to_thread(store.is_writing.wait)

        task: asyncio.Future[Any] = asyncio.ensure_future(part())
        await write()
        task.cancel()
        store.may_write.set()
        [ended] = await asyncio.gather(task, return_exceptions=True)
        return type(ended).__name__

    @flow
    async def limited() -> Any:
        asyncio.get_running_loop().call_later(0.05, store.may_write.set)
        try:
            # The timeout comes first.
            async with asyncio.timeout(0.01):
                await part()
        except TimeoutError:
            task = asyncio.current_task()
            assert task is not None
            return f"TimeoutError {task.cancelling()}"

    run = (limited if is_limited else cancelled).options(store=store).run()
    assert run.wait(LONG) == ("TimeoutError 0" if is_limited else "CancelledError")


def test_a_cleanup_is_not_cancelled_again() -> None:
    store, seen = Holding(), list[str]()

    async def outer() -> None:
        try:
            await asyncio.create_task(inner())
        finally:
            await asyncio.sleep(0.01)
            seen.append(await quick("outer"))

    async def inner() -> None:
        await held()
        try:
            # The next durable call of the task raises the error.
            await endless()
        finally:
            await asyncio.sleep(0.01)
            seen.append(await quick("inner"))

    @flow
    async def body() -> Any:
        task = asyncio.create_task(outer())
        await asyncio.to_thread(store.is_writing.wait)
        task.cancel()
        store.may_write.set()
        return type((await asyncio.gather(task, return_exceptions=True))[0]).__name__

    assert body.options(store=store).run().wait(LONG) == "CancelledError"
    assert seen == ["inner", "outer"]


def test_a_flow_that_is_not_async_cancels_later_too() -> None:
    store = Holding()

    async def main() -> str:
        asyncio.get_running_loop().call_later(0.05, store.may_write.set)
        try:
            async with asyncio.timeout(0.01):
                await in_calls_of_other_tasks()
        except TimeoutError:
            return "late"
        return "lost"

    @flow
    def body() -> Any:
        return asyncio.run(main())

    assert body.options(store=store).run().wait(LONG) == "late"


def test_a_submitted_call_that_has_ended_is_not_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    cancels = list[Callable[[], Any]]()
    close = Submitted.close

    def closed(self: Submitted, id: str) -> None:
        # The record is written, and the task that waits for it does not know yet.
        close(self, id)
        cancels[0]()
        time.sleep(0.02)

    monkeypatch.setattr(Submitted, "close", closed)

    @checkpoint(cache=False)
    def plain() -> str:
        return "kept"

    @flow
    async def body() -> Any:
        loop, kept = asyncio.get_running_loop(), list[str]()

        async def wait() -> None:
            kept.append(await plain.submit())
            await asyncio.Event().wait()

        task = asyncio.create_task(wait())
        cancels.append(lambda: loop.call_soon_threadsafe(task.cancel))
        await asyncio.gather(task, return_exceptions=True)
        return [*kept, task.cancelled()]

    assert body.run().wait(LONG) == ["kept", True]


def test_a_task_that_nobody_refers_to_does_not_vanish() -> None:
    @flow
    async def body() -> Any:
        asyncio.ensure_future(endless())  # noqa: RUF006 (that is the case)
        await quick(1)
        gc.collect()
        return await quick(2)

    assert body.run().wait(LONG) == 2


def test_a_timer_waits_for_what_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [60.0]

    @flow
    async def body() -> Any:
        try:
            async with asyncio.timeout(limits[0]):
                found = [await quick(n) for n in range(5)]
        except TimeoutError:
            return "late"
        return [found, await aio.wait(name="stop", schema=int)]

    handle = body.run()
    handle.settle()
    # Reading a record takes longer than the limit, as it may on a remote store.
    limits[:] = [0.01]
    found = Journal.outcome_or_end

    def slowly(self: Journal, id: str) -> Any:
        time.sleep(0.02)
        return found(self, id)

    monkeypatch.setattr(Journal, "outcome_or_end", slowly)
    again = body.replay(handle.exec_id, start="stop")
    assert again.settle() == "waiting"
    KitaruClient().executions.input(again.exec_id, 5, wait="stop")
    assert again.wait(LONG) == [[0, 1, 2, 3, 4], 5]


@pytest.mark.parametrize("name", BODIES)
def test_swept_flows_end_and_continue(name: str, tmp_path: Path) -> None:
    moments: list[dict[str, Any]] = [{"cancel": 5}, {"limit": 0.006}]
    if name not in TIMED:
        moments += [{"cancel": 8, "kill": (4, "after")}, {"cancel": 12, "kill": (3, "before")}]
    for number, moment in enumerate(moments):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert sweep(name, folder, **moment) == []
