"""The event loop of the body of an async flow.

Each execution of an async flow has a loop and a thread of its own, so `flow.run(…)` works under
loops that run already, such as those of FastAPI and notebooks. The tasks of the body and its async
checkpoints share the loop.

The body sees completions of durable calls one by one, in the order of a number in their records
(`sequence`). The loop delivers a completion only when nothing else is left to run:

    ready      run callbacks until none is left
    quiet      repeat the cancellations that calls have absorbed, see `cancellation`
    quiet      deliver the completion with the lowest number
    quiet, and nothing to deliver     start the calls that are not recorded (during a replay)
    quiet, waits, no call in flight   the execution waits

A live run and a replay therefore see the same order, although their calls take different times. An
event loop asks its selector to wait exactly when no callback is ready, so the selector is the place
where the loop is known to be quiet.

    number    taken when the write of a record begins, by call order of the loop
    held      a completion is not delivered while a lower number is being written
    cancelled a call that was recorded as cancelled never completes; if only timers are left, the
              loop's clock jumps to the next timer, so no timeout is waited for twice
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import logging
import os
import selectors
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from concurrent.futures import Future as ThreadFuture
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any
from weakref import WeakSet

from kitaru.errors import ContextError
from kitaru.runtime.engine import cancellation, tasks
from kitaru.runtime.engine.cancellation import Turn
from kitaru.runtime.engine.drivers import Blocking, Driver, DroppedCall
from kitaru.runtime.engine.event_loop import call_on
from kitaru.runtime.engine.execution import Execution, park
from kitaru.runtime.engine.futures import Future
from kitaru.runtime.engine.places import numbering
from kitaru.wire.records import InvocationRecord
from kitaru.wire.structs import replace

# A body that never becomes quiet, such as `while not task.done(): await asyncio.sleep(0)`, gets one
# completion after so many turns of the loop.
_SPINS = 1000
# A periodic timer may keep the clock jumping although no timer cancels the call.
_JUMPS = 10_000
_NONE = 1 << 62
_LOOK_SECONDS = 0.5


class Deliveries:
    """The completions of one body, delivered in order. Only `take` and `forget` are for threads."""

    def __init__(self, loop: BodyLoop, execution: Execution) -> None:
        self._loop = loop
        self._execution = execution
        self._is_replaying = execution.attempted
        self._caught_up = threading.Event()
        self._ready: list[tuple[int, int, Turn, Any]] = []
        self._cancelled: list[tuple[int, int, asyncio.Future[None], str]] = []
        self._warned_of = ""
        self._starts: deque[asyncio.Future[None]] = deque()
        self._waits: dict[str, asyncio.Future[None]] = {}
        self._writing: set[int] = set()
        self._absorbing: list[asyncio.Task[Any]] = []
        self._taken = 0
        self._jumps = 0
        self._in_flight = 0
        self._is_parked = False
        self._next_look: asyncio.TimerHandle | None = None
        self._lock = threading.Lock()
        self._arrivals = count()
        if not self._is_replaying:
            self._caught_up.set()

    # Numbers

    def take(self) -> int:
        """Return the number of a completion whose record is about to be written."""
        with self._lock:
            self._taken += 1
            self._writing.add(self._taken)
            return self._taken

    def take_on_thread(self) -> int:
        """Do what `take` does on another thread than the loop's: after the replay."""
        self._caught_up.wait()
        return self.take()

    def forget(self, number: int) -> None:
        """Note that nobody waits for a number yet, or that its record was not written."""
        with self._lock:
            self._writing.discard(number)
        self._loop.wake()

    def turn(self, number: int, value: Any = None) -> Turn:
        """Return the turn of a completion. It yields `value` when all lower ones are delivered."""
        turn = Turn(loop=self._loop)
        self.arrived(number, turn, value)
        return turn

    def arrived(self, number: int, turn: Turn, value: Any) -> None:
        """Deliver `value` at the turn of `number`: its record is written."""
        with self._lock:
            self._writing.discard(number)
            self._taken = max(self._taken, number)
        heapq.heappush(self._ready, (number, next(self._arrivals), turn, value))

    def settled(self, number: int, is_watched: bool) -> None:
        """Note that a submitted call has ended. A task that watches it takes the turn itself."""
        self.end()
        if is_watched:
            self._loop.wake()
        else:
            self.forget(number)

    # Calls

    async def start(self) -> None:
        """Wait until every recorded completion that the body can reach is delivered."""
        if self._is_replaying:
            future = self._loop.create_future()
            self._starts.append(future)
            await future

    async def never(self, record: InvocationRecord) -> None:
        """Wait for the cancellation of a call that is recorded as cancelled."""
        future = self._loop.create_future()
        heapq.heappush(self._cancelled, (record.sequence, next(self._arrivals), future, record.id))
        await future

    def begin(self) -> None:
        """Note that a durable call is in flight: the execution does not wait for answers alone."""
        with self._lock:
            self._in_flight += 1
            was_parked, self._is_parked = self._is_parked, False
        if was_parked:
            self._execution.occupy()

    def end(self) -> None:
        """Note that a durable call is no longer in flight."""
        with self._lock:
            self._in_flight -= 1

    async def answer(self, wait: str) -> None:
        """Wait until the wait may have an answer."""
        future = self._waits[wait] = self._loop.create_future()
        try:
            await future
        finally:
            del self._waits[wait]

    def look_for_answers(self) -> None:
        """Let each wait look for its answer. For any thread."""
        self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        self._is_parked = False
        self._end_look()
        for future in self._waits.values():
            if not future.done():
                future.set_result(None)

    def absorbed(self, task: asyncio.Task[Any]) -> None:
        """Cancel a task again when the loop is quiet: it got a result instead."""
        self._absorbing.append(task)

    def _cancel_absorbed(self) -> bool:
        found, self._absorbing = self._absorbing, []
        for task in found:
            cancellation.repeat(task)
        return bool(found)

    # The selector of the loop

    def spin(self) -> None:
        """Let a body continue that is never quiet."""
        if self._execution.is_stopped:
            park()
        self._cancel_absorbed()
        if not self._deliver(None) and not self._writing:
            self._catch_up()

    def quiet(self, timeout: float | None) -> bool:
        """Let the body continue; return whether a callback is ready now.

        `timeout` is the time until the next timer, None without a timer.
        """
        if self._execution.is_stopped:
            park()
        if self._cancel_absorbed() or self._deliver(timeout):
            return True
        if self._writing:
            return False
        if self._cancelled and self._jump(timeout):
            return True
        return self._catch_up() or self._wait()

    def _deliver(self, timeout: float | None) -> bool:
        lowest = min(list(self._writing), default=_NONE)
        while self._ready and self._ready[0][0] < lowest:
            number = self._ready[0][0]
            if self._next_cancelled() < number and self._jump(timeout):
                return True
            _, _, turn, value = heapq.heappop(self._ready)
            self._jumps = 0
            if not turn.done():
                turn.set_result(value)
                return True
        return False

    def _next_cancelled(self) -> int:
        while self._cancelled and self._cancelled[0][2].done():
            heapq.heappop(self._cancelled)
            self._jumps = 0
        return self._cancelled[0][0] if self._cancelled else _NONE

    def _jump(self, timeout: float | None) -> bool:
        if timeout is None or self._in_flight or self._jumps >= _JUMPS:
            return False
        if self._next_cancelled() == _NONE:
            return False
        self._jumps += 1
        self._loop.skip(timeout)
        return True

    def _catch_up(self) -> bool:
        self.stop_replaying()
        started = False
        while self._starts:
            future = self._starts.popleft()
            if not future.done():
                future.set_result(None)
                started = True
        return started

    def _wait(self) -> bool:
        if not self._waits and not self._in_flight:
            self._warn_of_cancelled()
        if not self._waits or self._is_parked:
            return False
        if self._in_flight:
            return self._look_later(_LOOK_SECONDS)
        if (seconds := self._execution.outlasts(list(self._waits))) is not None:
            return self._look_later(seconds)
        self._is_parked = True
        self._execution.release(list(self._waits), self.look_for_answers)
        return False

    def _warn_of_cancelled(self) -> None:
        """Warn that nothing cancels a call again, as after a change of the flow's code."""
        if self._next_cancelled() == _NONE or self._cancelled[0][3] == self._warned_of:
            return
        self._warned_of = self._cancelled[0][3]
        logging.getLogger("kitaru").warning(
            "%s of %s: the call %s was cancelled in an earlier run, and is not cancelled in this "
            "one yet. If the flow's code has changed, start a new execution.",
            self._execution.journal.exec_id,
            self._execution.journal.execution.flow,
            self._warned_of,
        )

    def _look_later(self, seconds: float) -> bool:
        """Look for answers after a time, while calls are in flight or until a deadline.

        Returns whether that is planned only now: the loop must take it into account.
        """
        planned = self._next_look
        if planned is not None and planned.when() <= self._loop.time() + seconds:
            return False
        self._end_look()
        self._next_look = self._loop.call_later(seconds, self._look)
        return True

    def _end_look(self) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None

    def stop_replaying(self) -> None:
        """Let submitted calls take numbers: the loop is blocked, or the body has ended."""
        self._caught_up.set()
        self._loop.release()


class BodyLoop(asyncio.SelectorEventLoop):
    """The loop of one body."""

    def __init__(self, execution: Execution) -> None:
        self.deliveries = Deliveries(self, execution)
        self._ahead = 0.0
        # The time at which a replay is held.
        self._held: float | None = super().time() if execution.attempted else None
        self._in_threads: WeakSet[asyncio.Future[Any]] = WeakSet()
        # asyncio itself refers to tasks weakly: one that nobody awaits may vanish at any moment.
        self._unfinished: set[asyncio.Task[Any]] = set()
        self._threads = DaemonThreads(max(32, (os.cpu_count() or 1) + 4), "kitaru-thread")
        # A store with round trips takes several records at a time. A local store has one writer.
        writers = 16 if execution.journal.store.remote else 1
        self._writers = DaemonThreads(writers, "kitaru-writer")
        super().__init__(_QuietSelector(self))
        tasks.install(self)

    def time(self) -> float:
        """Return the time of the loop. Only waiting takes time while a replay is held.

        Recorded completions must not lose to a timer, however long it takes to read them.
        """
        return (super().time() if self._held is None else self._held) + self._ahead

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Let time pass in this block, although a replay is held."""
        start = super().time()
        yield
        if self._held is not None:
            self._held += super().time() - start

    def release(self) -> None:
        """Let time pass from now on: the recorded completions have been delivered."""
        if self._held is not None:
            self._ahead += self._held - super().time()
            self._held = None

    def skip(self, seconds: float) -> None:
        """Move the clock of the loop forward."""
        self._ahead += seconds

    def wake(self) -> None:
        """Let the loop look for something to deliver. For any thread."""
        self.call_soon_threadsafe(_nothing)

    def set_task_factory(self, factory: Any) -> None:
        """Accept only Kitaru's own factory, which names the tasks."""
        if self.get_task_factory() is not None:
            raise ContextError(
                "An async flow cannot set a task factory: the ids of its calls come from Kitaru's.",
                help="Create the tasks with asyncio.create_task(…) or a TaskGroup.",
            )
        super().set_task_factory(factory)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Create a task. The future of a submitted call is accepted like its coroutine."""
        task = super().create_task(
            coro.coroutine() if isinstance(coro, Future) else coro, **options
        )
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        return task

    def tasks(self) -> list[asyncio.Task[Any]]:
        """Return the unfinished tasks of the body, except the current one."""
        return tasks.left_behind(self)

    def alive(self) -> list[str]:
        """Return the names of the tasks and threads that the body has left running."""
        names = [getattr(t.get_coro(), "__qualname__", "?") for t in self.tasks()]
        names += ["a function on a thread" for one in list(self._in_threads) if not one.done()]
        return list(dict.fromkeys(names))

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run a function on a daemon thread. Its durable calls have a place of their own."""
        running = super().run_in_executor(executor or self._threads, tasks.placed(func), *args)
        if numbering.get() is not None:
            self._in_threads.add(running)
        return running

    def close(self) -> None:
        """Close the loop and end its idle threads."""
        self._threads.close()
        self._writers.close()
        super().close()

    def driver_of(self, future: Future[Any], blocking: Blocking) -> Driver:
        """Return the driver of a submitted call."""
        return _Submitted(self.deliveries, future, blocking)

    def check_may_block(self, wait: str, instead: str = "") -> None:
        """Raise ContextError if a blocking wait would stop other tasks of the body.

        `instead` is the code that does not block; default that of a wait for an answer.
        """
        if tasks.left_behind(self):
            raise ContextError(
                f"The wait {wait} would block the event loop, and with it the other tasks of the "
                "flow.",
                help="Await it:\n    "
                + (
                    instead or f'from kitaru import aio\n    answer = await aio.wait(name="{wait}")'
                ),
            )

    def call(self, start: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Wait on another thread for a coroutine on this loop; return its value."""
        return call_on(self, start)

    def in_thread(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        """Run `work` on a thread, in the context of the caller."""
        context = contextvars.copy_context()
        return super().run_in_executor(self._threads, partial(context.run, work))

    def write(
        self, work: Callable[[], Any], done: Callable[[Any, BaseException | None], None]
    ) -> None:
        """Run `work` on a thread that writes; then call `done` with its result on the loop."""

        def run() -> None:
            try:
                result, error = work(), None
            except BaseException as failure:
                result, error = None, failure
            self.call_soon_threadsafe(done, result, error)

        self._writers.put(run)


class _Submitted:
    """The driver of a submitted call of an async body: its completion has a number."""

    def __init__(self, deliveries: Deliveries, future: Future[Any], blocking: Blocking) -> None:
        self.retries_here = blocking.retries_here
        self.call, self.use_store, self.pause = blocking.call, blocking.use_store, blocking.pause
        self._deliveries = deliveries
        self._future = future

    async def commit(
        self, record: InvocationRecord, write: Callable[[InvocationRecord], InvocationRecord]
    ) -> InvocationRecord:
        number = self._deliveries.take_on_thread()
        try:
            if not self._future.finalize():
                raise DroppedCall
            return write(replace(record, sequence=number))
        except BaseException:
            self._deliveries.forget(number)
            raise


def _nothing() -> None:
    pass


class _QuietSelector(selectors.DefaultSelector):
    """A selector that asks `Deliveries` before it waits."""

    def __init__(self, loop: BodyLoop) -> None:
        super().__init__()
        self._loop, self._deliveries = loop, loop.deliveries
        self._spins = 0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout > 0:
            self._spins = 0
            if not self._deliveries.quiet(timeout):
                with self._loop.waiting():
                    return super().select(timeout)
        else:
            self._spins += 1
            if self._spins > _SPINS:
                self._spins = 0
                self._deliveries.spin()
        return super().select(0)


class DaemonThreads(Executor):
    """Threads that wait for work and end with the process.

    The threads of the standard library's executors are joined at exit. A parked one would keep the
    process alive.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._todo: deque[Callable[[], None]] = deque()
        self._idle = self._count = 0
        self._is_closed = False
        self._changed = threading.Condition()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> ThreadFuture[Any]:
        future: ThreadFuture[Any] = ThreadFuture()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                value = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(value)

        self.put(run)
        return future

    def put(self, work: Callable[[], None]) -> None:
        """Run `work`, which must not raise."""
        with self._changed:
            self._todo.append(work)
            if len(self._todo) <= self._idle or self._count >= self._most:
                self._changed.notify()
                return
            self._count += 1
        threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def close(self) -> None:
        """End the threads when their work is done."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while (work := self._next()) is not None:
            work()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._todo:
                if self._is_closed:
                    return None
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
            return self._todo.popleft()


def run(execution: Execution, body: Coroutine[Any, Any, Any]) -> Any:
    """Run the body of an async flow to its end, on a loop of its own."""
    with asyncio.Runner(loop_factory=lambda: BodyLoop(execution)) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, BodyLoop)
        execution.loop = loop
        return runner.run(_to_end(execution, loop, body))


async def _to_end(execution: Execution, loop: BodyLoop, body: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await body
    finally:
        await _cancel_left(execution, loop)
        # Submitted async checkpoints run on this loop.
        await loop.in_thread(execution.drain)
        loop.deliveries.stop_replaying()


async def _cancel_left(execution: Execution, loop: BodyLoop) -> None:
    left = loop.tasks()
    if not left:
        return
    names = ", ".join(loop.alive())
    logging.getLogger("kitaru").warning(
        "%s of %s: the body ended before these tasks, which are cancelled: %s",
        execution.journal.exec_id,
        execution.journal.execution.flow,
        names,
    )
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


tasks.transparent.add(_to_end.__code__)
