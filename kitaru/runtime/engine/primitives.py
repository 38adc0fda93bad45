"""Primitives that are durable calls, in a blocking and an awaitable form.

A primitive is a generator: it yields the durable call that it needs, and turns the recorded value
into its result. Both forms therefore share every check:

    def _get(key):                                  blocking(_get("tone"))         blocks
        found = yield DurableCall(…)                await awaited(_get("tone"))
        return default if found is None else found.value

A primitive that needs no durable call here, such as a model call inside a checkpoint, yields
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, ParamSpec, TypeVar

from kitaru.runtime.engine.calls import Kwargs, Spec
from kitaru.runtime.engine.execution import Execution, current
from kitaru.wire.structs import Struct

P = ParamSpec("P")
T = TypeVar("T")


class DurableCall(Struct):
    """The durable call of a primitive."""

    execution: Execution
    spec: Spec
    kwargs: Kwargs


Primitive = Generator[DurableCall, Any, T]


def blocking(steps: Primitive[T]) -> T:
    """Return the result of a primitive; block until its call has ended."""
    try:
        call = next(steps)
        while True:
            call = steps.send(call.execution.invoke(call.spec, (), call.kwargs, None))
    except StopIteration as end:
        result: T = end.value
        return result


def awaited(steps: Primitive[T]) -> Coroutine[Any, Any, T]:
    """Return a coroutine for a primitive. In a flow's body its id is taken now.

    Outside a body nothing is recorded, and the primitive runs on a thread.
    """
    scope = current()
    if scope is None or scope.running is not None:
        return in_thread(blocking, steps)
    try:
        first = next(steps)
    except StopIteration as end:
        return _known(end.value)
    return _rest(steps, _begun(first))


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking function on a thread, in the context of the caller."""
    # The caller awaits, so asyncio is imported.
    import asyncio

    return await asyncio.to_thread(work, *args, **kwargs)


def _begun(call: DurableCall) -> Coroutine[Any, Any, Any]:
    from kitaru.runtime.engine import awaited_calls

    return awaited_calls.call(call.execution, call.spec, (), call.kwargs, None)


async def _known(value: T) -> T:
    return value


async def _rest(steps: Primitive[T], made: Coroutine[Any, Any, Any]) -> T:
    try:
        while True:
            made = _begun(steps.send(await made))
    except StopIteration as end:
        result: T = end.value
        return result
