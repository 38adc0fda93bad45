"""Drivers of durable calls: how a call runs its function, uses the store and pauses.

The life of a durable call (see `execution`) is one coroutine, whether the body blocks or awaits:

    blocking   draft(notes)         finished(resolve(call, Blocking(…)))     never suspends
    awaited    await draft(notes)   await resolve(call, OnLoop(…))           suspends in its driver

A blocking call imports no asyncio: a coroutine that never suspends needs no event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from kitaru.runtime.engine import attempts
from kitaru.runtime.engine.calls import Call
from kitaru.wire.records import InvocationRecord

T = TypeVar("T")


class Driver(Protocol):
    """What a durable call asks of the place where it runs."""

    retries_here: Callable[[], bool]
    """Whether failed attempts are retried in this process, or by the orchestrator."""

    async def call(self, call: Call, timeout: float | None) -> Any:
        """Call the function of a checkpoint once, within its time limit."""

    async def use_store(self, work: Callable[[], T]) -> T:
        """Return the result of `work`, which reads or writes the store."""
        ...

    async def commit(
        self, record: InvocationRecord, write: Callable[[InvocationRecord], InvocationRecord]
    ) -> InvocationRecord:
        """Write the outcome of a call with `write`. From here on the call cannot be cancelled."""
        ...

    async def pause(self, seconds: float) -> None:
        """Wait `seconds`, or less if this run of the body ends."""


class Blocking:
    """The driver of a call that blocks its thread."""

    def __init__(self, pause: Callable[[float], object], retries_here: Callable[[], bool]) -> None:
        self.retries_here = retries_here
        self._pause = pause

    async def call(self, call: Call, timeout: float | None) -> Any:
        return attempts.call_function(call, timeout)

    async def use_store(self, work: Callable[[], T]) -> T:
        return work()

    async def commit(
        self, record: InvocationRecord, write: Callable[[InvocationRecord], InvocationRecord]
    ) -> InvocationRecord:
        return write(record)

    async def pause(self, seconds: float) -> None:
        self._pause(seconds)


class DroppedCall(BaseException):
    """The call was cancelled before its record was written, so its result is dropped."""


def finished(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that never suspends."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("a blocking driver never suspends")
