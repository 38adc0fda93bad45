"""Async flows with random sleeps everywhere, for the stress test.

Each flow writes what its body sees to `seen`: after a kill, the next process must see the same
again. Each checkpoint writes its id to `ran`: a recorded call must not run again.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio

from kitaru import checkpoint, flow
from kitaru.runtime.engine.execution import current

chance = random.Random()


class Traces:
    """Files of this process."""

    seen = ran = 0


def see(text: str) -> None:
    os.write(Traces.seen, f"{text}\n".encode())


def note_run() -> None:
    scope = current()
    assert scope is not None and scope.running is not None
    os.write(Traces.ran, f"{scope.running.invocation}\n".encode())


async def nap(milliseconds: float = 4) -> None:
    await asyncio.sleep(chance.random() * milliseconds / 1000)


@checkpoint(cache=False)
async def work(x: int) -> int:
    note_run()
    await nap()
    return x + 1


@checkpoint(cache=False)
async def ask(text: str) -> str:
    note_run()
    await nap()
    return f"q{text}"


@checkpoint(cache=False)
def tool(x: int) -> int:
    note_run()
    time.sleep(chance.random() * 0.004)
    return x * 2


@checkpoint(cache=False)
async def flaky(x: int) -> None:
    note_run()
    await nap()
    raise ValueError(x)


@checkpoint(cache=False)
async def slow(x: int) -> int:
    note_run()
    await asyncio.sleep(0.012)
    return x


async def worker(n: int) -> list[Any]:
    value = await work(n)
    await nap()
    for _ in range(n % 3):
        value = await work(value)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(leaf(value + i)) for i in range(2)]
    return [task.result() for task in tasks]


async def leaf(value: int) -> list[Any]:
    await nap()
    text = await ask(str(value))
    doubled = await asyncio.to_thread(tool, value)
    try:
        await flaky(value)
    except ValueError as error:
        return [text, doubled, str(error), await work(value)]
    return []


@flow
async def places(n: int) -> list[Any]:
    """Ids by task path: gather, task groups, threads, anyio, tasks of other libraries between."""
    out: list[Any] = await asyncio.gather(*[worker(i) for i in range(n)])
    got = []

    async def other(i: int) -> None:
        await nap()
        got.append((await work(i), await tool.submit(i)))

    async with anyio.create_task_group() as group:
        for i in range(3):
            group.start_soon(other, i)
    out.append(sorted(got))
    background = [asyncio.create_task(nap()) for _ in range(chance.randrange(4))]
    out.append(await asyncio.gather(worker(7), worker(8)))
    await asyncio.gather(*background)
    return out


@flow
async def order(n: int) -> list[Any]:
    """Paths and arguments that depend on the order of completions: races and queues."""
    seen = []
    for each in asyncio.as_completed([work(i) for i in range(n)]):
        value = await each
        see(f"c{value}")
        seen.append(value)
    text = await ask("-".join(map(str, seen)))
    see(text)
    tasks = [asyncio.create_task(work(i)) for i in range(3)]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    first = sorted(task.result() for task in done)
    see(f"race{first}")
    queue: asyncio.Queue[int] = asyncio.Queue()
    for i in range(n):
        queue.put_nowait(i)
    lines: list[str] = []

    async def consumer(k: int) -> None:
        while not queue.empty():
            i = queue.get_nowait()
            result = await work(i)
            see(f"k{k}i{i}")
            lines.append(f"k{k}i{i}")
            if result % 2:
                await tool.submit(result)

    await asyncio.gather(*[consumer(k) for k in range(3)])
    last = await ask("|".join(lines))
    see(last)
    return [seen, first, lines, text, last]


@flow
async def timed(n: int) -> list[str]:
    """Timeouts that may or may not expire, and whose outcome decides the path."""
    out: list[str] = []
    for i in range(n):
        try:
            async with asyncio.timeout(0.001 + 0.02 * chance.random()):
                await work(await slow(i))
                out.append("ok")
        except TimeoutError:
            out.append("late")
        see(f"{i}{out[-1]}")
        out.append(await ask("".join(out)))
        see(out[-1])
    return out


@flow
async def races(n: int) -> list[Any]:
    """Losers that are cancelled, among them submitted calls and calls in groups."""
    out: list[Any] = []
    for i in range(n):
        racing = [asyncio.create_task(work(i)), asyncio.ensure_future(tool.submit(i))]
        racing += [asyncio.create_task(racer(i))]
        _, pending = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        ended = await asyncio.gather(*racing, return_exceptions=True)
        shown = ["-" if isinstance(one, BaseException) else str(one) for one in ended]
        see(f"{i}: {shown}")
        out.append(await ask(",".join(shown)))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(work(i))
                group.create_task(flaky(i))
                group.create_task(racer(i))
        except* ValueError as errors:
            see(f"{i} failed {len(errors.exceptions)}")
        try:
            out.append(await asyncio.wait_for(slow(i), 0.004 + chance.random() * 0.016))
        except TimeoutError:
            out.append("late")
        see(str(out[-1]))
    return out


async def racer(i: int) -> int:
    try:
        return await work(await work(i))
    finally:
        await nap(1)


async def numbers(n: int) -> AsyncIterator[int]:
    for i in range(n):
        yield await work(i)
        await nap(1)


@flow
async def streams(n: int) -> list[Any]:
    """Async generators, context managers, semaphores, events, and a spinning body."""
    out: list[Any] = []
    limit, changed = asyncio.Semaphore(2), asyncio.Condition()

    async def limited(i: int) -> None:
        async with limit:
            value = await work(i)
        async with changed:
            out.append(value)
            see(f"v{value}")
            changed.notify_all()

    async def watcher() -> str:
        async with changed:
            await changed.wait_for(lambda: len(out) >= 2)
        return await ask("".join(map(str, out[:2])))

    watching = asyncio.create_task(watcher())
    async for value in numbers(n):
        see(f"n{value}")
    await asyncio.gather(*[limited(i) for i in range(n)])
    spinning = asyncio.create_task(work(100))
    while not spinning.done():
        await asyncio.sleep(0)
    see(await watching)
    return [out, await spinning, await tool.map(range(n)), await ask("".join(map(str, out)))]


PROGRAMS: dict[str, tuple[Any, int]] = {
    "places": (places, 4),
    "order": (order, 5),
    "timed": (timed, 4),
    "races": (races, 3),
    "streams": (streams, 4),
}

Body = Callable[[int], Any]
