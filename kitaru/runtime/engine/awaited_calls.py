"""Durable calls that an event loop awaits.

    await draft(notes)           in the body of an async flow, or of any coroutine in a flow
      |
    call written   take the id; digest the arguments; return a coroutine
      |
    awaited        recorded?  wait for its turn (`body_loop`), return its value
                   else       run it in this task, write its record on a thread, wait for its turn

A cancellation that arrives before the record is written ends the call, and the call is recorded as
cancelled as soon as its task continues. A later cancellation is absorbed: the call returns its
result, and the task is cancelled at its next durable call or when it waits for anything else (see
`cancellation`). A replay therefore sees each cancellation at the same call.

On loops that Kitaru did not create, such as that of `asyncio.run` in a flow that is not async, the
same rules apply, except that completions have no recorded order.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from functools import lru_cache, partial
from opcode import opmap
from types import CodeType
from typing import Any, TypeVar

from kitaru.runtime.engine import attempts, cancellation, tasks
from kitaru.runtime.engine.body_loop import BodyLoop, Deliveries
from kitaru.runtime.engine.calls import Args, Call, Kwargs, Spec, ending
from kitaru.runtime.engine.cancellation import Turn, Watched
from kitaru.runtime.engine.execution import Execution, anywhere
from kitaru.runtime.engine.futures import (
    Future,
    Submission,
    pending_futures,
    resolve_futures,
    submission,
)
from kitaru.runtime.engine.outcomes import Outcome
from kitaru.runtime.journal.exceptions import is_own
from kitaru.wire.records import InvocationRecord, WaitRequest
from kitaru.wire.structs import replace

T = TypeVar("T")

_POLL_SECONDS = 0.2
# On a loop that Kitaru did not create, nobody knows when it is quiet. The calls that a task makes
# meanwhile are recorded as cancelled.
_REPEAT_SECONDS = 0.01


class Unstarted:
    """Reports a call that is never awaited, with the line of the user's code."""

    __slots__ = ("_call", "is_started")

    def __init__(self, call: Call) -> None:
        self._call = call
        self.is_started = False

    def __del__(self) -> None:
        if not self.is_started and not sys.is_finalizing():
            logging.getLogger("kitaru").warning(
                "%s: the call %s was never awaited, so it did not run",
                self._call.site,
                self._call.id,
            )


class OnLoop:
    """The driver of a call that runs in a task."""

    def __init__(self, execution: Execution, deliveries: Deliveries | None) -> None:
        self.retries_here = execution.retries_here
        self._deliveries = deliveries

    async def call(self, call: Call, timeout: float | None) -> Any:
        if call.spec.coroutine is None:
            return await _in_thread(lambda: attempts.call_function(call, timeout))
        return await attempts.await_function(call, timeout)

    async def use_store(self, work: Callable[[], T]) -> T:
        result: T = await _in_thread(work)
        return result

    async def commit(
        self, record: InvocationRecord, write: Callable[[InvocationRecord], InvocationRecord]
    ) -> InvocationRecord:
        if self._deliveries is None:
            held: InvocationRecord = await _uncancelled(_written(record, write))
            return held
        return await _delivered(self._deliveries, record, write)

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def _delivered(
    deliveries: Deliveries,
    record: InvocationRecord,
    write: Callable[[InvocationRecord], InvocationRecord],
) -> InvocationRecord:
    """Write a record and wait for its turn."""
    loop = _body_loop()
    assert loop is not None
    number = deliveries.take()
    turn = Turn(loop=loop)

    def done(held: InvocationRecord, error: BaseException | None) -> None:
        if error is None:
            deliveries.arrived(number, turn, held)
        else:
            deliveries.forget(number)
            turn.set_exception(error)

    loop.write(lambda: write(replace(record, sequence=number)), done)
    held: InvocationRecord = await _uncancelled(turn)
    return held


def _written(
    record: InvocationRecord, write: Callable[[InvocationRecord], InvocationRecord]
) -> Turn:
    turn = Turn(loop=asyncio.get_running_loop())
    future = asyncio.ensure_future(_in_thread(lambda: write(record)))

    def done(written: asyncio.Future[InvocationRecord]) -> None:
        if (error := written.exception()) is not None:
            turn.set_exception(error)
        else:
            turn.set_result(written.result())

    future.add_done_callback(done)
    return turn


async def _uncancelled(turn: Turn) -> Any:
    """Return the result of a turn; absorb a cancellation that arrives before it."""
    try:
        return await turn
    except asyncio.CancelledError:
        assert turn.done(), "only the turn wakes its task"
        _absorb(turn)
        return turn.result()


def _absorb(watched: Watched) -> None:
    task = cancellation.absorb(watched)
    loop = _body_loop()
    if loop is not None:
        loop.deliveries.absorbed(task)
    else:
        asyncio.get_running_loop().call_later(_REPEAT_SECONDS, cancellation.repeat, task)


async def _in_thread(work: Callable[[], Any]) -> Any:
    loop = _body_loop()
    if loop is not None:
        return await loop.in_thread(work)
    return await asyncio.to_thread(work)


def _body_loop() -> BodyLoop | None:
    loop = asyncio.get_running_loop()
    return loop if isinstance(loop, BodyLoop) else None


def _deliveries(execution: Execution) -> Deliveries | None:
    loop = asyncio.get_running_loop()
    return loop.deliveries if loop is execution.loop and isinstance(loop, BodyLoop) else None


# Calls


def call(
    execution: Execution,
    spec: Spec,
    args: Args,
    kwargs: Kwargs,
    id: str | None,
    after: Any = None,
    key: str | None = None,
) -> Coroutine[Any, Any, Any]:
    """Take the id of a call now; return the coroutine that makes the call."""
    waits_for = pending_futures((args, kwargs, after))
    if waits_for:
        begun = execution.begin(spec, (), {}, id, key, is_complete=False)
    else:
        args, kwargs = resolve_futures(args), resolve_futures(kwargs)
        begun = execution.begin(spec, args, kwargs, id, key)
        # Between the call and the `await`, the body may change its own objects.
        if not _is_awaited_in_place():
            begun = _with_copies(begun)
    made: Any = _made(execution, begun, Unstarted(begun), args, kwargs, waits_for)
    # For messages of asyncio, such as "coroutine 'draft' was never awaited".
    made.__name__, made.__qualname__ = spec.name, spec.function.__qualname__
    return made  # type: ignore[no-any-return]


async def _made(
    execution: Execution,
    begun: Call,
    unstarted: Unstarted,
    args: Args,
    kwargs: Kwargs,
    waits_for: list[Future[Any]],
) -> Any:
    unstarted.is_started = True
    del unstarted
    with ending(begun):
        if waits_for:
            for future in waits_for:
                await future
            begun = execution.completed_call(begun, resolve_futures(args), resolve_futures(kwargs))
        outcome = await _performed(execution, begun, partial(execution.resolve, begun))
        return _value(execution, begun, outcome)


def _value(execution: Execution, begun: Call, outcome: Outcome) -> Any:
    value, error = execution.value_of(outcome, begun.spec.pickle)
    if error is None:
        return execution.read_value(begun, outcome, value)
    if not outcome.sealed:
        execution.note_unsealed(begun.id, outcome)
    raise error


async def _performed(
    execution: Execution, begun: Call, resolve: Callable[[OnLoop], Coroutine[Any, Any, Outcome]]
) -> Outcome:
    """Return the outcome of a call at its turn: the recorded one, or that of `resolve`."""
    deliveries = _deliveries(execution)
    held = execution.recorded_outcome(begun)
    if held is None:
        _raise_absorbed(execution, begun, deliveries)
    elif held.record.status == "cancelled":
        await _cancelled_again(held.record, deliveries)
    if held is not None:
        # The earlier run has passed this call, so a cancellation comes later.
        await _at_turn(deliveries, held)
        return held
    try:
        if deliveries is not None:
            await deliveries.start()
            deliveries.begin()
        try:
            with execution.recording():
                outcome = await resolve(OnLoop(execution, deliveries))
        finally:
            if deliveries is not None:
                deliveries.end()
    except asyncio.CancelledError:
        _note_cancelled(execution, begun, deliveries)
        raise
    if not outcome.sealed:
        # A failure is not written yet, but other completions must come before or after it.
        await _at_turn(deliveries, outcome)
    return outcome


async def _at_turn(deliveries: Deliveries | None, outcome: Outcome) -> None:
    if deliveries is None:
        # A call that is recorded suspends like one that is not.
        await asyncio.sleep(0)
        return
    if not outcome.record.sequence and not outcome.sealed:
        outcome.record = replace(outcome.record, sequence=deliveries.take())
    # A record without a number was written by another process, before the body continued here. It
    # precedes all completions that have a number.
    await _uncancelled(deliveries.turn(outcome.record.sequence))


async def _cancelled_again(record: InvocationRecord, deliveries: Deliveries | None) -> None:
    if deliveries is None:
        await asyncio.get_running_loop().create_future()
    else:
        await deliveries.never(record)
    raise AssertionError(f"the call {record.id} was cancelled, and only that ends it")


def _raise_absorbed(execution: Execution, begun: Call, deliveries: Deliveries | None) -> None:
    task = asyncio.current_task()
    if task is None:
        return
    if cancellation.take_absorbed(task):
        _note_cancelled(execution, begun, deliveries)
        raise asyncio.CancelledError


def _note_cancelled(execution: Execution, begun: Call, deliveries: Deliveries | None) -> None:
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        # The checkpoint raised the error itself.
        return
    number = 0
    if deliveries is not None:
        number = deliveries.take()
        deliveries.forget(number)
    record = attempts.cancelled_record(begun, number)
    execution.note_unsealed(begun.id, Outcome(record, sealed=False))


def _with_copies(begun: Call) -> Call:
    """Return the call with copies of its mutable arguments."""
    values = [*begun.args, *begun.kwargs.values()]
    if begun.opaque or all(type(value) in attempts.IMMUTABLE for value in values):
        return begun
    return attempts.with_copies(begun)


@lru_cache(maxsize=1024)
def _is_await_next(code: CodeType, at: int) -> bool:
    """Return whether the value of the call at an instruction is awaited at once."""
    for position in range(at + 2, len(code.co_code), 2):
        instruction = code.co_code[position]
        if instruction != opmap["CACHE"]:
            return instruction == opmap["GET_AWAITABLE"]
    return False


def _is_awaited_in_place() -> bool:
    frame = sys._getframe(1)
    while is_own(frame.f_code.co_filename) and frame.f_back is not None:
        frame = frame.f_back
    return _is_await_next(frame.f_code, frame.f_lasti)


def promise(
    execution: Execution, spec: Spec, args: Args, kwargs: Kwargs, id: str | None, after: Any = None
) -> Any:
    """Take the id of a call now; return an awaitable that makes the call, or another process does.

    If an argument is a future that is not read yet, no other process can make the call.
    """
    if pending_futures((args, kwargs, after)):
        return call(execution, spec, args, kwargs, id, after)
    begun = execution.begin(spec, resolve_futures(args), resolve_futures(kwargs), id)
    future: Future[Any] = Future(
        execution.submitted, begun.id, pickle=spec.pickle, is_async=spec.coroutine is not None
    )
    made = replace(submission(begun, future, execution.may_pickle), is_lazy=True)
    if made.arguments is None:
        made = replace(made, call=_with_copies(begun))
    execution.submitted.promise(made)
    return future


# Futures


async def result_of(future: Future[T]) -> T:
    """Return the result of a submitted call at its turn."""
    if future.is_known:
        return future.read()
    execution = anywhere(f"The future {future.id}").execution
    deliveries = _deliveries(execution)
    lazy = execution.submitted.take(future.id)
    if lazy is not None:
        await _keep_promise(execution, lazy)
        return future.read()
    if not future.is_settled:
        execution.look_up(future)
    if not future.is_settled:
        # A wait may have left promised calls in this process.
        execution.submitted.start()
        # Watch the future at once: the number of an unwatched one holds back no higher number.
        await _settled(execution, future, deliveries)
    outcome = future.outcome
    if outcome is not None and outcome.record.status == "cancelled":
        await _cancelled_again(outcome.record, deliveries)
    if deliveries is not None and outcome is not None:
        await _at_turn(deliveries, outcome)
    return future.read()


async def _keep_promise(execution: Execution, promised: Submission) -> None:
    """Make a promised lazy call in this task, unless another process has made it."""
    made, future = promised.ready(), promised.future

    async def resolve(driver: OnLoop) -> Outcome:
        return execution.failed_in_this_run(made) or await execution.resolve(made, driver)

    try:
        outcome = await _performed(execution, made, resolve)
    except BaseException as error:
        future.fail(error)
        raise
    future.settle(outcome)
    if outcome.record.status == "completed":
        execution.submitted.close(made.id)


async def _settled(
    execution: Execution, future: Future[Any], deliveries: Deliveries | None
) -> None:
    loop = asyncio.get_running_loop()
    woken = Watched(loop=loop)

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    future.when_settled(lambda: loop.call_soon_threadsafe(wake))
    try:
        await woken
    except asyncio.CancelledError:
        begun = execution.submitted.call(future.id)
        if begun is not None and future.cancel():
            _note_cancelled(execution, begun, deliveries)
            raise
        # Its record is written, or being written: the caller gets the result.
        _absorb(woken)
        while not future.is_settled:
            turn = Turn(loop=loop)
            future.when_settled(partial(loop.call_soon_threadsafe, _resolve_turn, turn))
            await _uncancelled(turn)


def _resolve_turn(turn: Turn) -> None:
    if not turn.done():
        turn.set_result(None)


# Waits


def wait(
    execution: Execution,
    request: WaitRequest,
    timeout: float,
    read: Callable[[Any], Any],
    key: str | None = None,
) -> Coroutine[Any, Any, Any]:
    """Take the id of a wait now; return the coroutine that asks and waits."""
    begun = execution.begin_wait(request, read, key)
    return _answered(execution, begun, Unstarted(begun), request, timeout)


async def _answered(
    execution: Execution, begun: Call, unstarted: Unstarted, request: WaitRequest, timeout: float
) -> Any:
    unstarted.is_started = True
    del unstarted
    with ending(begun):
        if _deliveries(execution) is None:
            return await _in_thread(lambda: execution.answer_of_wait(begun, request, timeout))
        outcome = await _performed(
            execution, begun, lambda driver: _asked(execution, begun, request, timeout, driver)
        )
        return execution.answer(begun, outcome)


def ended(execution: Execution, begun: Call, request: WaitRequest) -> Coroutine[Any, Any, Any]:
    """Return the coroutine that waits for the end of a child."""
    return _ended(execution, begun, Unstarted(begun), request)


async def _ended(
    execution: Execution, begun: Call, unstarted: Unstarted, request: WaitRequest
) -> Any:
    unstarted.is_started = True
    del unstarted
    with ending(begun):
        if _deliveries(execution) is None:
            with execution.recording():
                outcome = await _in_thread(lambda: execution.outcome_of_wait(begun, request, 0))
        else:
            outcome = await _performed(
                execution, begun, lambda driver: _asked(execution, begun, request, 0, driver)
            )
        return _value(execution, begun, outcome)


async def _until_idle(execution: Execution, wait: str) -> None:
    """Wait until the child of a wait is idle, if it runs here."""
    loop = asyncio.get_running_loop()
    woken = Watched(loop=loop)

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    if execution.children.when_idle(wait, lambda: loop.call_soon_threadsafe(wake)):
        await woken


async def _asked(
    execution: Execution, begun: Call, request: WaitRequest, timeout: float, driver: OnLoop
) -> Outcome:
    deliveries = _deliveries(execution)
    assert deliveries is not None
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout
    if (held := await execution.recorded_answer(begun, driver)) is not None:
        return held
    if request.child:
        await _until_idle(execution, begun.id)
    await driver.use_store(lambda: execution.request_wait(begun, request))
    while (answer := await driver.use_store(lambda: execution.valid_answer(begun))) is None:
        if loop.time() < until:
            await asyncio.sleep(_POLL_SECONDS)
            continue
        # The wait is not in flight: if nothing else is, the execution waits.
        deliveries.end()
        try:
            await deliveries.answer(begun.id)
        finally:
            deliveries.begin()
    return await execution.commit_answer(begun, answer, driver)


tasks.transparent |= {
    asyncio.to_thread.__code__,
    _made.__code__,
    _answered.__code__,
    _ended.__code__,
    result_of.__code__,
}
