"""Async flows: colours, ids, order, failures, cancellation, waits and loops."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

import kitaru
from kitaru import aio, checkpoint, errors, flow
from kitaru.cli.render.progress import lines
from kitaru.client import KitaruClient
from kitaru.stores.memory import MemoryStore
from tests.waiting import wait_until

from .conftest import Runs

called: list[str] = []
fails = threading.Event()
token: contextvars.ContextVar[str] = contextvars.ContextVar("token", default="unset")


@pytest.fixture(autouse=True)
def _calls() -> None:
    called.clear()
    fails.clear()


@checkpoint(cache=False)
async def work(x: Any) -> Any:
    called.append(f"work {x}")
    await asyncio.sleep(0)
    return x


@checkpoint(cache=False)
def plain(x: Any) -> Any:
    called.append(f"plain {x}")
    return x


@checkpoint(cache=False)
async def never() -> None:
    called.append("never")
    await asyncio.Event().wait()


@checkpoint(cache=False)
async def broken() -> str:
    if fails.is_set():
        raise ValueError("broken")
    return "mended"


async def worker(n: int) -> Any:
    return [await work(n), await work(n + 10)]


def resumed(body: Any, handle: Any) -> Any:
    """Run an execution again from its records."""
    called.clear()
    return body.resume(handle.exec_id)


def stopped(handle: Any, answer: int = 5) -> Any:
    """Answer the wait `stop` at the end of a body, and return the result."""
    assert handle.settle(60) == "waiting"
    KitaruClient().executions.input(handle.exec_id, answer, wait="stop")
    return handle.wait(60)


def replayed(body: Any, handle: Any) -> Any:
    """Run a body again with its records, up to the wait `stop`, and return the result."""
    called.clear()
    return stopped(body.replay(handle.exec_id, start="stop"))


# Colour


def test_checkpoints_keep_their_colour_in_both_colours_of_flow() -> None:
    @flow
    async def mixed() -> list[Any]:
        future = plain.submit(2)
        pending = work(1)
        assert inspect.iscoroutine(pending)
        return [await pending, plain(1), await future, await work.submit(3), await work.map([4, 5])]

    @flow
    def sync() -> list[Any]:
        return [work(1), work.submit(2).result()]

    assert mixed.run().wait() == [1, 1, 2, 3, [4, 5]]
    assert sync.run().wait() == [1, 2]
    assert inspect.iscoroutinefunction(work) and not inspect.iscoroutinefunction(plain)


def test_a_blocking_result_of_an_async_checkpoint_is_refused() -> None:
    @flow
    async def blocks() -> Any:
        return plain.submit(1).result() + work.submit(2).result()

    with pytest.raises(errors.FlowError, match=r"await future") as failure:
        blocks.run().wait()
    assert isinstance(failure.value.__cause__, errors.ContextError)


def test_a_call_that_is_never_awaited_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    @flow
    async def forgets() -> None:
        work(1)

    with pytest.warns(RuntimeWarning, match="work' was never awaited"):
        forgets.run().wait()
    assert "test_flows.py" in caplog.text and "the call work was never awaited" in caplog.text


def test_arguments_are_those_of_the_call(runs: Runs) -> None:
    @flow
    async def appends() -> Any:
        given = [1]
        later = work(given)
        given.append(2)
        return [await later, await work(given), await aio.wait(name="stop", schema=int)]

    handle = appends.run()
    assert stopped(handle) == [[1], [1, 2], 5]
    assert replayed(appends, handle) == [[1], [1, 2], 5]
    assert called == []


def test_futures_as_arguments_are_awaited() -> None:
    @flow
    async def chained() -> Any:
        return await work([plain.submit(1), work.submit(2)])

    assert chained.run().wait() == [1, 2]


# Ids


def test_ids_are_taken_when_the_call_is_written(runs: Runs) -> None:
    @flow
    async def gathers() -> Any:
        last = work(3)
        return [await asyncio.gather(work(1), plain.submit(2), work(2)), await last]

    handle = gathers.run()
    assert handle.wait() == [[1, 2, 2], 3]
    assert {id: one.arguments["x"] for id, one in runs.records(handle).items()} == {
        "work": 3,
        "work_2": 1,
        "plain": 2,
        "work_3": 2,
    }


async def grouped() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(worker(1))
        group.create_task(worker(2))


async def completed() -> None:
    for each in asyncio.as_completed([worker(1), worker(2)]):
        await each


async def waited() -> None:
    await asyncio.wait([asyncio.create_task(worker(n)) for n in (1, 2)])


async def started() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(worker, 1)
        group.start_soon(worker, 2)


async def gathered() -> None:
    await asyncio.gather(worker(1), worker(2))


@pytest.mark.parametrize("concurrently", [grouped, completed, waited, started, gathered])
def test_tasks_number_their_calls_under_their_own_path(
    runs: Runs, concurrently: Callable[[], Any]
) -> None:
    @flow
    async def body() -> None:
        await concurrently()

    handle = body.run()
    handle.wait()
    expected = {"worker.work", "worker.work_2", "worker_2.work", "worker_2.work_2"}
    assert runs.records(handle).keys() == expected


def test_wait_for_and_other_tasks_do_not_change_ids(runs: Runs) -> None:
    async def nothing() -> None:
        await asyncio.sleep(0)

    @flow
    async def body() -> None:
        other = asyncio.create_task(nothing())
        await asyncio.wait_for(worker(1), 60)
        await asyncio.shield(worker(2))
        await other

    handle = body.run()
    handle.wait()
    assert runs.records(handle).keys() == {
        "work",
        "work_2",
        "worker.work",
        "worker.work_2",
    }


def test_threads_of_the_loop_have_places_of_their_own(runs: Runs) -> None:
    def two(n: int) -> list[Any]:
        return [plain(n), plain(n + 1)]

    @flow
    async def body() -> Any:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(
            asyncio.to_thread(two, 1),
            asyncio.to_thread(two, 3),
            asyncio.to_thread(plain, 5),
            loop.run_in_executor(None, plain, 6),
        )

    handle = body.run()
    assert handle.wait() == [[1, 2], [3, 4], 5, 6]
    given = {id: one.arguments["x"] for id, one in runs.records(handle).items()}
    assert given == {
        "two.plain": 1,
        "two.plain_2": 2,
        "two_2.plain": 3,
        "two_2.plain_2": 4,
        "plain": 6,
        "plain_2": 5,
    }


def test_a_task_factory_is_refused() -> None:
    @flow
    async def body() -> None:
        asyncio.get_running_loop().set_task_factory(lambda loop, coro: asyncio.Task(coro))

    with pytest.raises(errors.FlowError, match="task factory"):
        body.run().wait()


# Order


def test_a_replay_delivers_in_the_recorded_order(runs: Runs) -> None:
    gate = asyncio.Event()

    @checkpoint(cache=False)
    async def second(x: int) -> int:
        await gate.wait()
        return x

    @checkpoint(cache=False)
    async def opens(x: int) -> int:
        gate.set()
        return x

    @flow
    async def body() -> Any:
        seen: list[int] = []
        tasks = [asyncio.ensure_future(one) for one in (second(1), opens(2))]
        for task in tasks:
            task.add_done_callback(lambda done: seen.append(done.result()))
        await asyncio.gather(*tasks)
        return [await work(seen), await aio.wait(name="stop", schema=int)]

    handle = body.run()
    assert stopped(handle) == [[2, 1], 5]
    sequences = {id: one.sequence for id, one in runs.records(handle).items()}
    assert sequences == {"opens": 1, "second": 2, "work": 3, "stop": 4}
    assert replayed(body, handle) == [[2, 1], 5]
    assert called == []


def test_as_completed_names_tasks_in_the_order_of_its_list(runs: Runs) -> None:
    @flow
    async def body() -> Any:
        # The order of a set differs between the runs.
        calls = [worker(n) if n % 2 else plain.submit([n, n + 10]) for n in range(8)]
        found = [await one for one in asyncio.as_completed(calls)]
        return [sorted(found), await aio.wait(name="stop", schema=int)]

    handle = body.run()
    assert stopped(handle) == [[[n, n + 10] for n in range(8)], 5]
    given = {id: one.arguments.get("x") for id, one in runs.records(handle).items()}
    assert [given[f"{name}.work"] for name in ("worker", "worker_2", "worker_3", "worker_4")] == [
        1,
        3,
        5,
        7,
    ]
    assert replayed(body, handle) == [[[n, n + 10] for n in range(8)], 5]
    assert called == []


def test_a_body_that_spins_gets_its_completions() -> None:
    @flow
    async def body() -> Any:
        task = asyncio.create_task(work(1))
        for _ in range(10_000_000):
            if task.done():
                break
            await asyncio.sleep(0)
        return await task

    assert body.run().wait(120) == 1


# Failures


def test_a_sibling_does_not_seal_a_failure_that_nobody_has_seen(runs: Runs) -> None:
    @flow
    async def body() -> Any:
        task = asyncio.create_task(broken())  # type: ignore[arg-type]
        others = [await work(n) for n in range(5)]
        return [others, await task]

    fails.set()
    handle = body.run()
    with pytest.raises(errors.CheckpointFailed, match="broken"):
        handle.wait()
    assert "broken" not in runs.records(handle)
    fails.clear()
    assert resumed(body, handle).wait() == [[0, 1, 2, 3, 4], "mended"]


def test_a_caught_failure_is_recorded(runs: Runs) -> None:
    @flow
    async def body() -> Any:
        try:
            await broken()
        except ValueError as error:
            caught = str(error)
        results = await asyncio.gather(broken(), work(1), return_exceptions=True)
        stop = await aio.wait(name="stop", schema=int)
        return [caught, str(results[0]), await work(2), stop]

    fails.set()
    handle = body.run()
    assert stopped(handle) == ["broken", "broken", 2, 5]
    assert runs.records(handle)["broken"].status == "failed"
    fails.clear()
    assert replayed(body, handle) == ["broken", "broken", 2, 5]


# Cancellation


limits = [0.01]


@flow
async def limited() -> Any:
    try:
        async with asyncio.timeout(limits[0]):
            await never()
    except TimeoutError:
        await work("late")
    return [await aio.wait(name="stop", schema=int), await work("end")]


def test_a_timeout_is_recorded_and_not_waited_for_again(runs: Runs) -> None:
    limits[:] = [0.01]
    handle = limited.run()
    assert stopped(handle) == [5, "end"]
    record = runs.records(handle)["never"]
    assert (record.status, record.sequence) == ("cancelled", 1)
    # Longer than the tests may take: a replay does not wait for it.
    limits[:] = [7200.0]
    assert replayed(limited, handle) == [5, "end"]
    assert called == ["work end"]


def test_a_cancellation_that_new_code_does_not_repeat_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stuck: list[Callable[[], Any]] = []

    @flow
    async def body() -> Any:
        task = asyncio.create_task(never())  # type: ignore[arg-type]
        await work(1)
        if fails.is_set():
            loop = asyncio.get_running_loop()
            stuck.append(lambda: loop.call_soon_threadsafe(task.cancel))
        else:
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return await aio.wait(name="stop", schema=int)

    handle = body.run()
    assert stopped(handle) == 5
    assert "earlier run" not in caplog.text
    fails.set()
    again = body.replay(handle.exec_id, start="stop")
    wait_until(lambda: "the call never was cancelled in an earlier run" in caplog.text)
    stuck[0]()
    assert stopped(again) == 5


def test_tasks_left_at_the_end_are_cancelled_with_a_note(
    runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    @flow
    async def body() -> str:
        left = asyncio.create_task(never())  # type: ignore[arg-type]
        await work(1)
        return "done" if not left.done() else ""

    handle = body.run()
    assert handle.wait() == "done"
    assert "the body ended before these tasks" in caplog.text
    assert runs.records(handle)["never"].status == "cancelled"


def test_a_cancelled_submitted_call_stays_cancelled(runs: Runs) -> None:
    release = threading.Event()

    @checkpoint(cache=False)
    def hangs() -> str:
        release.wait()
        return "dropped"

    @checkpoint(cache=False)
    def releases() -> int:
        release.set()
        return 2

    @flow
    async def body() -> Any:
        racing = asyncio.ensure_future(hangs.submit())
        await work(1)
        racing.cancel()
        [ended] = await asyncio.gather(racing, return_exceptions=True)
        return [type(ended).__name__, releases(), await aio.wait(name="stop", schema=int)]

    handle = body.run()
    assert stopped(handle) == ["CancelledError", 2, 5]
    assert runs.records(handle)["hangs"].status == "cancelled"
    assert replayed(body, handle) == ["CancelledError", 2, 5]


def test_a_group_aborts_as_in_python() -> None:
    @flow
    async def body() -> Any:
        fails.set()
        found: list[str] = []
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(never())  # type: ignore[arg-type]
                group.create_task(broken())  # type: ignore[arg-type]
        except* ValueError as errors_:
            found += map(str, errors_.exceptions)
        return found

    assert body.run().wait() == ["broken"]


class Holding(MemoryStore):
    """A store that writes the record of `held` only when it may."""

    def __init__(self) -> None:
        super().__init__("memory:holding")
        self.may_write = threading.Event()

    def create(self, key: str, value: bytes) -> bool:
        if key.endswith("/inv/held"):
            assert self.may_write.wait(240)
        return super().create(key, value)


def test_a_cancellation_that_came_too_late_is_over_with_its_timeout() -> None:
    store = Holding()

    @checkpoint(cache=False)
    async def held() -> str:
        return "kept"

    @flow
    async def body() -> Any:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(never())  # type: ignore[arg-type]
                group.create_task(broken())  # type: ignore[arg-type]
        except* ValueError:
            # Up to Python 3.12, this leaves the task with one pending cancellation.
            pass
        # The timeout comes first.
        asyncio.get_running_loop().call_later(0.05, store.may_write.set)
        async with asyncio.timeout(0.01):
            kept = await held()
        return [kept, await work("next")]

    fails.set()
    assert body.options(store=store).run().wait(240) == ["kept", "next"]


def test_a_timeout_of_the_checkpoint_is_its_failure() -> None:
    @checkpoint(cache=False, timeout=0.01)
    async def hangs() -> None:
        await asyncio.Event().wait()

    @flow
    async def body() -> Any:
        try:
            await hangs()
        except errors.CheckpointTimeout:
            return await work("too slow")

    assert body.run().wait() == "too slow"


# Waits


@flow
async def approvals() -> Any:
    async def one(name: str) -> Any:
        return await work([name, await aio.wait(name=name, schema=int)])

    return await asyncio.gather(one("legal"), one("editor"), plain.submit("beside"))


@pytest.mark.parametrize("names", [("one.legal", "one_2.editor"), ("one_2.editor", "one.legal")])
def test_several_waits_are_pending_and_answered_in_any_order(
    runs: Runs, names: tuple[str, str]
) -> None:
    handle = approvals.run()
    assert handle.settle(60) == "waiting"
    waits = KitaruClient().executions.get(handle.exec_id).waits
    assert sorted(one.name for one in waits) == ["one.legal", "one_2.editor"]
    for number, name in enumerate(names):
        KitaruClient().executions.input(handle.exec_id, number, wait=name)
    values = {name: number for number, name in enumerate(names)}
    assert handle.wait(60) == [
        ["legal", values["one.legal"]],
        ["editor", values["one_2.editor"]],
        "beside",
    ]


def test_a_blocking_wait_beside_other_tasks_is_refused() -> None:
    @flow
    async def body() -> Any:
        task = asyncio.create_task(never())  # type: ignore[arg-type]
        try:
            return kitaru.wait(name="ok")
        finally:
            task.cancel()

    with pytest.raises(errors.FlowError, match=r"would block the event loop"):
        body.run().wait(60)


def test_a_call_while_the_execution_waits_lets_it_run_again() -> None:
    @flow
    async def body() -> Any:
        async def later() -> Any:
            await asyncio.sleep(0.05)
            return await work("timer")

        return await asyncio.gather(aio.wait(name="ok"), later())

    handle = body.run()
    handle.settle(60)
    KitaruClient().executions.input(handle.exec_id, True)
    assert handle.wait(60) == [True, "timer"]


# The primitives


def test_primitives_are_awaited_and_recorded(runs: Runs) -> None:
    @checkpoint(cache=False)
    async def saves() -> str:
        kitaru.save("note", 5)
        return await aio.llm("inside")

    @flow
    async def body() -> Any:
        first, second = await asyncio.gather(aio.llm("a"), aio.llm("b", name="named"))
        await aio.memory.set("tone", "formal")
        assert await aio.memory.get("missing", "default") == "default"
        inside = await saves()
        return [bool(first), bool(second), bool(inside), await aio.memory.get("tone")]

    handle = body.run()
    assert handle.wait() == [True, True, True, "formal"]
    assert runs.records(handle).keys() == {
        "llm",
        "named",
        "saves",
        "memory_set",
        "memory_get",
        "memory_get_2",
    }


def test_awaitable_forms_have_the_parameters_of_the_blocking_forms() -> None:
    operations = [name for name in vars(aio.AsyncMemories) if not name.startswith("_")]
    names = ("llm", "load", "wait")
    pairs: list[tuple[Any, Any]] = [(getattr(aio, n), getattr(kitaru, n)) for n in names]
    pairs += [(getattr(aio.memory, n), getattr(kitaru.memory, n)) for n in operations]
    assert len(pairs) > 8
    for awaited, blocking in pairs:
        expected = inspect.signature(blocking).parameters.values()
        found = inspect.signature(awaited).parameters.values()
        assert [(p.name, p.kind, p.default) for p in found] == [
            (p.name, p.kind, p.default) for p in expected
        ], blocking


# Loops and contexts


def test_flows_run_and_are_awaited_on_a_running_loop() -> None:
    @flow
    async def body(n: int) -> Any:
        return await asyncio.gather(*[worker(i) for i in range(n)])

    async def server() -> Any:
        return await asyncio.gather(body.run(2), body.run(1))

    assert asyncio.run(server()) == [[[0, 10], [1, 11]], [[0, 10]]]


def test_context_variables_of_the_body_are_seen_in_checkpoints() -> None:
    @checkpoint(cache=False)
    async def reads() -> str:
        return token.get()

    @flow
    async def body() -> Any:
        token.set("mine")
        return [await reads(), await asyncio.create_task(reads())]  # type: ignore[arg-type]

    assert body.run().wait() == ["mine", "mine"]


def test_submitted_calls_see_the_context_variables_of_the_body() -> None:
    """Each sees those of its submission, as in `asyncio.to_thread`; its changes are its own."""

    @checkpoint(cache=False)
    def read(x: int) -> str:
        found = f"{token.get()} {x}"
        token.set("changed")
        return found

    @checkpoint(cache=False)
    async def later(x: int) -> str:
        return f"{token.get()} {x}"

    @flow
    def sync() -> Any:
        token.set("first")
        futures = [*read.map([1, 2]), later.submit(3)]
        token.set("second")
        return [[one.result() for one in futures], read.submit(4).result(), token.get()]

    @flow
    async def awaits() -> Any:
        token.set("first")
        futures = [*read.map([1, 2]), later.submit(3)]
        token.set("second")
        return [[await one for one in futures], await read.submit(4), token.get()]

    expected = [["first 1", "first 2", "first 3"], "second 4", "second"]
    assert sync.run().wait() == expected
    assert awaits.run().wait() == expected
    assert token.get() == "unset"


def test_checkpoints_share_the_loop_of_the_body() -> None:
    @checkpoint(cache=False)
    async def loop_of() -> bool:
        return asyncio.get_running_loop() is loops[0]

    loops: list[asyncio.AbstractEventLoop] = []

    @flow
    async def body() -> Any:
        loops.append(asyncio.get_running_loop())
        from_thread = await asyncio.to_thread(loop_of)
        return [await loop_of(), await loop_of.submit(), from_thread]

    assert body.run().wait() == [True, True, True]


def test_a_sync_flow_awaits_checkpoints_on_a_loop_of_its_own(runs: Runs) -> None:
    @flow
    def body() -> Any:
        async def main() -> Any:
            return await asyncio.gather(worker(1), worker(2), plain.submit(3))

        twice = [asyncio.run(main()), asyncio.run(main())]
        return [twice, kitaru.wait(name="stop", schema=int)]

    handle = body.run()
    assert stopped(handle) == [[[[1, 11], [2, 12], 3]] * 2, 5]
    assert runs.records(handle).keys() >= {"worker.work", "worker_4.work_2", "plain_2"}
    assert replayed(body, handle) == handle.get()
    assert called == []


def test_a_flow_is_a_part_of_an_async_flow() -> None:
    @flow
    async def inner(n: int) -> Any:
        return await work(n)

    @flow
    async def outer() -> Any:
        return [await inner(1), await inner(2)]

    assert outer.run().wait() == [1, 2]


async def numbers() -> AsyncIterator[int]:
    for n in range(3):
        yield await work(n)


def test_async_generators_and_context_managers() -> None:
    @flow
    async def body() -> Any:
        lock = asyncio.Lock()
        async with lock:
            return [n async for n in numbers()]

    assert body.run().wait() == [0, 1, 2]


def test_the_log_of_asyncio_stays_quiet(caplog: pytest.LogCaptureFixture) -> None:
    @flow
    async def body() -> Any:
        return await asyncio.gather(*[work(n) for n in range(50)])

    with caplog.at_level(logging.WARNING):
        assert body.run().wait() == list(range(50))
    # Another test's garbage may be collected meanwhile, and Kitaru tells of it.
    assert [record for record in caplog.records if record.name == "asyncio"] == []


@flow
async def first_of() -> Any:
    asked = asyncio.create_task(aio.wait(name="lost", schema=int))
    made = asyncio.create_task(work("quick"))  # type: ignore[arg-type]
    done, _ = await asyncio.wait([asked, made], return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    await work("next")
    return [one.result() for one in done] + [await aio.wait(name="kept", schema=int)]


def test_a_wait_that_lost_a_race_is_closed(runs: Runs) -> None:
    handle = first_of.run()
    assert handle.settle(60) == "waiting"
    client = KitaruClient()
    view = client.executions.get(handle.exec_id)
    assert [one.name for one in view.waits] == ["kept"]
    (lost,) = [one for one in view.invocations if one.status == "cancelled"]
    assert lines([lost])[0].split()[1:] == [lost.id, "cancelled"]
    with pytest.raises(errors.StateError, match="was cancelled"):
        client.executions.input(handle.exec_id, 1, wait=lost.id)
    # The only wait needs no name.
    client.executions.input(handle.exec_id, 2)
    assert handle.wait(60) == ["quick", 2]
    assert client.verify_store().findings == ()
