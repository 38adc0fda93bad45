"""Cancellations that arrive after the point of no return of a durable call.

Once a call's record is being written, the call returns its result. A cancellation that arrives
meanwhile is absorbed by the turn of the call, and repeated later:

    await asyncio.timeout(…)    cancels the task, while the record of its call is being written
    the call returns            the task continues with the result
    next durable call           raises the CancelledError, if the same task makes one at once
    loop is quiet               otherwise the cancellation is repeated, wherever the task waits now

Without the repetition it would be lost: a task that then waits for a queue would wait for ever, and
so would an agent whose tools make their calls in tasks of their own.

A cancellation passes from task to task. The innermost may return its result, since only the outer
one was to be cancelled. The chain of tasks is therefore noted, with what each of them waited for:

    outer.cancel()  ->  gather  ->  inner.cancel()  ->  turn of the call
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from kitaru.wire.structs import Struct

# What asyncio calls the future that a task waits for.
_WAITER = "_fut_waiter"


class _Passed(Struct):
    """A task that a cancellation has passed through.

    `pending` is the number of cancellations of the task, including this one. If fewer are pending,
    this one is over, as after the end of its `asyncio.timeout`. Zero is not the measure: up to
    Python 3.12, a TaskGroup that fails leaves one pending for ever.
    """

    task: asyncio.Task[Any]
    waiter: asyncio.Future[Any] | None
    pending: int

    @property
    def is_over(self) -> bool:
        return self.task.done() or self.task.cancelling() < self.pending


class _Passing(threading.local):
    """The cancellation that runs on this thread: the tasks it passes, and whether it repeats."""

    def __init__(self) -> None:
        self.tasks: list[tuple[asyncio.Task[Any], asyncio.Future[Any] | None]] = []
        self.is_repeated = False

    @contextmanager
    def repeating(self) -> Iterator[None]:
        self.is_repeated = True
        try:
            yield
        finally:
            self.is_repeated = False


_Chain = tuple[_Passed, ...]
_passing = _Passing()
# The tasks that continue with the result of a call although they are cancelled.
_absorbed: WeakKeyDictionary[asyncio.Task[Any], list[_Chain]] = WeakKeyDictionary()


class Task(asyncio.Task[Any]):
    """A task that notes the cancellations which pass through it."""

    def cancel(self, msg: Any = None) -> bool:
        """Request the cancellation, like `asyncio.Task.cancel`."""
        if _passing.is_repeated:
            # The request has been counted before.
            self.uncancel()
        _passing.tasks.append((self, getattr(self, _WAITER, None)))
        try:
            return super().cancel(msg)
        finally:
            _passing.tasks.pop()


class Watched(asyncio.Future[Any]):
    """A future that notes how cancellations reach it."""

    def __init__(self, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        # A framework may repeat a cancellation at each turn of the loop: the first one counts.
        self.chains: dict[tuple[asyncio.Task[Any], ...], _Chain] = {}

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the future, and note the tasks that are cancelled."""
        self._note()
        return super().cancel(msg)

    def _note(self) -> None:
        tasks = tuple(task for task, _ in _passing.tasks)
        if tasks not in self.chains:
            passed = (_Passed(task, waiter, task.cancelling()) for task, waiter in _passing.tasks)
            self.chains[tasks] = tuple(passed)


class Turn(Watched):
    """Resolved when a completion is delivered. A cancellation does not reach it.

    A task that is cancelled meanwhile gets the CancelledError when the turn has come, and absorbs
    it.
    """

    def cancel(self, msg: Any = None) -> bool:
        """Note the tasks that are cancelled, but refuse the cancellation."""
        self._note()
        return False


def absorb(watched: Watched) -> asyncio.Task[Any]:
    """Let the current task continue although it was cancelled; return the task."""
    task = asyncio.current_task()
    assert task is not None, "only a task is cancelled"
    own = _Passed(task, watched, task.cancelling())
    chains = []
    for chain in watched.chains.values() or [()]:
        # The task itself is missing if asyncio delivered its cancellation when it began to wait, or
        # if its loop uses tasks of its own.
        chains.append(chain if chain and chain[-1].task is task else (*chain, own))
    _absorbed.setdefault(task, []).extend(chains)
    return task


def take_absorbed(task: asyncio.Task[Any]) -> bool:
    """Return whether a task has to be cancelled still; from now on its caller is in charge."""
    return any(not chain[-1].is_over for chain in _absorbed.pop(task, ()))


def repeat(task: asyncio.Task[Any]) -> None:
    """Repeat the cancellations that a task has absorbed, unless they have arrived meanwhile."""
    for chain in _absorbed.pop(task, ()):
        for passed in chain:
            if passed.is_over:
                continue
            waiter = passed.waiter
            is_inner = passed is not chain[-1] and waiter is not None
            if is_inner and waiter is not None and waiter.done() and _is_cancelled(waiter):
                # The task has received the CancelledError.
                continue
            _cancel_again(passed.task)
            if is_inner and waiter is not None and not waiter.done():
                # The cancellation has passed on to the next task.
                break


def _is_cancelled(future: asyncio.Future[Any]) -> bool:
    # A `gather` that is cancelled ends with the error.
    return future.cancelled() or isinstance(future.exception(), asyncio.CancelledError)


def _cancel_again(task: asyncio.Task[Any]) -> None:
    if not isinstance(task, Task):
        task.uncancel()
    with _passing.repeating():
        task.cancel()
