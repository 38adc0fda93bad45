"""Cancel flows at each iteration of their event loop, kill them at each record, and resume them.

    nice -n 15 python -m tests.asynchronous.sweep --kills --load 2

Each flow has a timeout. The clock of its loop jumps past it at the chosen iteration, or the timeout
is a real one of some milliseconds. The process is killed before or after the chosen record, and
resumed by one without a kill. Then check:

- no process failed, diverged or hung; one that hangs writes its threads, tasks and deliveries;
- no recorded call ran again;
- what the body saw before the kill, it saw again, in the same order, but for the last line.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import anyio

from kitaru import aio, checkpoint, flow, harness
from kitaru.runtime.engine import body_loop
from kitaru.runtime.journal.journal import Journal

from .programs import Traces, note_run, see
from .stress import ids_of

LIMIT = 3600.0
_BLOCKED_SECONDS = 0.5
_HANGS_SECONDS = 30.0
_ITERATIONS = 400


class Moments:
    """When a process cancels its flow, and when it dies."""

    cancel = _ITERATIONS
    limit = LIMIT
    kill: tuple[int, str] | None = None


@checkpoint(cache=False)
async def quick(x: Any) -> Any:
    note_run()
    return x


@checkpoint(cache=False)
async def slow(x: Any) -> Any:
    note_run()
    for _ in range(3):
        await asyncio.sleep(0)
    return x


@checkpoint(cache=False)
async def endless(x: Any = 0) -> None:
    note_run()
    await asyncio.Event().wait()


@checkpoint(cache=False)
def blocking(x: Any) -> Any:
    note_run()
    return x


@checkpoint(cache=False, retries=2, retry_delay=0.0)
async def flaky(x: Any) -> Any:
    note_run()
    raise ValueError(x)


async def talk() -> None:
    """Do what an agent does: its tools run in tasks of their own."""
    with harness.scope("agent"):
        for turn in range(2):
            await harness.step("model", partial(_reply, turn), kind="llm")
            tools = [_tool(f"{turn}-{n}") for n in range(2)]
            await asyncio.gather(*tools)
        await harness.step("last", _linger, kind="tool")


async def _reply(turn: int) -> int:
    note_run()
    await asyncio.sleep(0)
    return turn


async def _linger() -> None:
    note_run()
    await asyncio.Event().wait()


async def _tool(key: str) -> None:
    async def run() -> str:
        note_run()
        await asyncio.sleep(0)
        return key

    await harness.step("tool", run, key=key, kind="tool")


async def chain() -> None:
    """Wait for tasks that wait for tasks."""

    async def inner(n: int) -> Any:
        await quick(n)
        return await slow(n)

    async def outer(n: int) -> Any:
        return await asyncio.create_task(inner(n))

    await asyncio.gather(outer(1), inner(2))
    await asyncio.create_task(outer(3))
    await endless()


async def group() -> None:
    """Run a task group in a task group."""
    async with asyncio.TaskGroup() as first:
        first.create_task(slow(1))  # type: ignore[arg-type]
        async with asyncio.TaskGroup() as second:
            second.create_task(quick(2))  # type: ignore[arg-type]
            second.create_task(slow(3))  # type: ignore[arg-type]
        first.create_task(endless())  # type: ignore[arg-type]


async def cleaning() -> None:
    """Make durable calls while the task is being cancelled."""
    try:
        await slow(1)
        await quick(2)
        await endless()
    finally:
        await slow("clean")
        await asyncio.gather(quick("up"), slow("all"))


async def shielded() -> None:
    """Shield calls, and cancel what is not shielded."""
    kept = asyncio.ensure_future(slow(1))
    try:
        await asyncio.shield(kept)
        await quick(2)
        await endless()
    finally:
        see(f"kept {await kept}")


async def racing() -> None:
    """Cancel the losers of races."""
    for n in range(2):
        made = [asyncio.ensure_future(one) for one in (quick(n), slow(n), endless(n))]
        _, pending = await asyncio.wait(made, return_when=asyncio.FIRST_COMPLETED)
        for one in pending:
            one.cancel()
        ended = await asyncio.gather(*pending, return_exceptions=True)
        see(" ".join(type(one).__name__ for one in ended))
    await endless()


async def queued() -> None:
    """Cancel workers that wait for a queue."""
    queue: asyncio.Queue[int] = asyncio.Queue()

    async def work() -> None:
        while True:
            n = await queue.get()
            await quick(n)
            queue.task_done()

    workers = [asyncio.create_task(work()) for _ in range(2)]
    try:
        for n in range(4):
            queue.put_nowait(n)
        await quick("joined")
    finally:
        for one in workers:
            one.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    await endless()


async def submitted() -> None:
    """Wait for submitted calls, which run on threads."""
    found = [blocking.submit(n) for n in range(2)]
    see(f"{await found[0]} {await found[1]}")
    see(f"{await slow.submit(3)}")
    await endless()


async def waiting() -> None:
    """Wait for a person, beside a call."""
    await asyncio.gather(slow(1), aio.wait(name="ok", schema=int))


async def retrying() -> None:
    """Retry, and pass the failure."""
    try:
        await flaky(1)
    except ValueError as error:
        see(str(error))
    await slow(2)
    await endless()


async def generating() -> None:
    """Cancel an async generator and a context manager that make calls."""

    async def numbers() -> Any:
        try:
            for n in range(2):
                yield await quick(n)
        finally:
            await slow("closed")

    @asynccontextmanager
    async def opened() -> Any:
        await quick("open")
        try:
            yield
        finally:
            await slow("close")

    async with opened():
        async for n in numbers():
            see(str(n))
        await endless()


async def scoped() -> None:
    """Cancel with the scopes of anyio, which repeat a cancellation until it arrives."""
    with anyio.move_on_after(Moments.limit):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(slow, 1)
            tasks.start_soon(quick, 2)
            await slow(3)
            tasks.start_soon(endless)
    await quick("moved on")
    await endless()


async def waited_for() -> None:
    """Wait for a task with a limit of its own."""
    try:
        await asyncio.wait_for(talk(), Moments.limit)
    except TimeoutError:
        see("inner")
    await endless()


BODIES: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
    one.__name__: one
    for one in (
        talk, chain, group, cleaning, shielded, racing, queued, submitted, waiting, retrying,
        generating, scoped, waited_for,
    )
}  # fmt: skip
# The order of timers is not recorded. The paths of these depend on it, if the timeout comes while
# the body waits for something that is no durable call.
TIMED = {"shielded", "racing"}


@flow
async def limited(name: str) -> Any:
    """Run a body until its timeout, then make more calls."""
    try:
        async with asyncio.timeout(Moments.limit):
            await BODIES[name]()
    except* TimeoutError:
        see("late")
    see(f"{await quick('after')}")
    return await asyncio.gather(slow("a"), quick("b"))


# Processes


_loops: list[_Loop] = []


class _Loop(body_loop.BodyLoop):
    """Counts its iterations from the moment at which all recorded completions are delivered."""

    iterations = 0

    def __init__(self, execution: Any) -> None:
        super().__init__(execution)
        _loops.append(self)

    def _run_once(self) -> None:
        if self.deliveries._caught_up.is_set():
            self.iterations += 1
            if self.iterations >= Moments.cancel:
                self.skip(LIMIT)
        super()._run_once()  # type: ignore[misc]


def _child(name: str, store: str, folder: Path, moments: dict[str, Any]) -> NoReturn:
    code = 1
    try:
        kind = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_APPEND
        Traces.seen, Traces.ran = (os.open(folder / one, kind) for one in ("seen", "ran"))
        os.dup2(os.open(folder / "log", kind), 2)
        threading.Thread(target=_watch, daemon=True).start()
        Moments.cancel, Moments.limit = moments["cancel"], moments["limit"]
        if moments["kill"]:
            _kill_at(*moments["kill"])
        body_loop.BodyLoop = _Loop  # type: ignore[misc]
        limited.options(store=store, exec_id="swept").run(name).wait()
        code = 0
    except BaseException as error:
        traceback.print_exception(error.__cause__ or error)
    finally:
        os._exit(code)


def _watch() -> None:
    # The loop may block before it has counted so many iterations.
    time.sleep(_BLOCKED_SECONDS)
    Moments.cancel = 0
    for loop in _loops:
        loop.call_soon_threadsafe(loop.skip, LIMIT)
    time.sleep(_HANGS_SECONDS)
    faulthandler.dump_traceback(all_threads=True)
    for loop in _loops:
        for task in asyncio.all_tasks(loop):
            task.print_stack()
        sys.stderr.write(f"{vars(loop.deliveries)}\n")
    sys.stderr.flush()
    os._exit(99)


def _kill_at(number: int, moment: str) -> None:
    record, left, lock = Journal.record, [number], threading.Lock()

    def counted(self: Journal, *args: Any, **kwargs: Any) -> Any:
        with lock:
            left[0] -= 1
            is_last = left[0] == 0
        if is_last and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        held = record(self, *args, **kwargs)
        if is_last:
            os.kill(os.getpid(), signal.SIGKILL)
        return held

    Journal.record = counted  # type: ignore[method-assign]


def _run(name: str, store: str, folder: Path, **moments: Any) -> str:
    for trace in ("seen", "ran"):
        (folder / trace).write_text("")
    pid = os.fork()
    if pid == 0:
        _child(name, store, folder, moments)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return {0: "ended", -signal.SIGKILL: "killed", 99: "hung"}.get(code, f"exit code {code}")


def sweep(
    name: str,
    folder: Path,
    cancel: int = _ITERATIONS,
    limit: float = LIMIT,
    kill: tuple[int, str] | None = None,
) -> list[str]:
    """Run a body, cancel it, kill it and resume it; return the problems."""
    store, problems, seen, recorded = f"sqlite:{folder}/k.db", list[str](), "", set[str]()
    for again in (False, True):
        ended = _run(name, store, folder, cancel=cancel, limit=limit, kill=None if again else kill)
        now, ran = (folder / "seen").read_text(), (folder / "ran").read_text().split()
        problems += [f"ran again: {id}" for id in ran if id in recorded]
        # The failure that led to the last line may not be recorded yet.
        whole = seen.splitlines(keepends=True)[:-1]
        if not now.startswith("".join(whole)):
            problems.append(f"saw {seen!r}, then {now!r}")
        if ended not in ("ended", "killed"):
            problems.append(f"{ended}: {(folder / 'log').read_text()[-6000:]}")
        if ended != "killed":
            break
        seen, recorded = now, ids_of(store, "swept")
    return problems


def cases(name: str, most: int, kills: bool) -> Iterator[dict[str, Any]]:
    """Yield the moments of a sweep."""
    for cancel in range(1, most):
        yield {"name": name, "cancel": cancel}
        for number in range(1, 12) if kills and name not in TIMED else ():
            for moment in ("before", "after"):
                yield {"name": name, "cancel": cancel, "kill": (number, moment)}
    for milliseconds in range(0, 61, 4):
        yield {"name": name, "limit": milliseconds / 1000}
        for number in (2, 5, 8) if kills and name not in TIMED else ():
            yield {"name": name, "limit": milliseconds / 1000, "kill": (number, "after")}


@contextmanager
def load(count: int) -> Iterator[None]:
    """Keep `count` processes busy."""
    busy = [
        subprocess.Popen(["nice", "-n", "5", sys.executable, "-c", "while True: pass"])
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for one in busy:
            one.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--body", choices=sorted(BODIES), action="append")
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--kills", action="store_true", help="also kill at each record")
    parser.add_argument("--load", type=int, default=0, help="number of busy processes beside")
    given = parser.parse_args()
    failures = 0
    with load(given.load):
        for name in given.body or BODIES:
            count, start = 0, time.monotonic()
            for moments in cases(name, given.iterations, given.kills):
                count += 1
                with tempfile.TemporaryDirectory() as folder:
                    found = sweep(folder=Path(folder), **moments)
                if found:
                    failures += 1
                    sys.stdout.write(f"{moments}: {found}\n")
            sys.stdout.write(f"{name}: {count} runs, {time.monotonic() - start:.0f} s\n")
            sys.stdout.flush()
    sys.stdout.write(f"{failures} problems\n")
    return min(failures, 1)


if __name__ == "__main__":
    raise SystemExit(main())
