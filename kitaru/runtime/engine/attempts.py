"""Run one attempt of a checkpoint, and turn its outcome into a record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kitaru.errors import (
    ArgumentChanged,
    BudgetExceeded,
    ContextError,
    ValueNotEncodable,
    ValueTooLarge,
)
from kitaru.runtime import codec
from kitaru.runtime.engine.argument_texts import arguments_of, labelled
from kitaru.runtime.engine.calls import Call
from kitaru.runtime.engine.outcomes import Outcome, error_info
from kitaru.runtime.engine.retries import Policy, bounded, timed_out
from kitaru.runtime.journal import exceptions, lineage
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.telemetry.logs import LiveText
from kitaru.wire.records import AttemptRecord, InvocationRecord, StoredValue
from kitaru.wire.structs import replace
from kitaru.wire.times import later, now

# Above this size, checking the arguments for changes costs more than the checkpoint.
_WATCHED_BYTES = 1024 * 1024
IMMUTABLE = (str, int, float, bool, type(None), bytes, complex)


class Running:
    """One attempt of an invocation, with the side data that it collects.

    `is_step`: the invocation is a step of a harness, not a checkpoint.
    `capture` selects what is recorded of model calls, as set by the decorators; None records
    nothing. `pickle` allows the attempt to load pickles. `loading_seconds` is the time spent
    waiting for the import of a model library. It does not count as time of the attempt.
    `open_calls` are the unanswered model calls, each with the function that records it. An attempt
    that times out leaves such calls open. `refused` is the error of a durable call that was made
    inside the attempt, as the code that called it may have caught the error. `live_text` is what a
    harness streams in it.
    """

    __slots__ = (
        "artifacts",
        "calls",
        "capture",
        "invocation",
        "is_step",
        "live_text",
        "loading_seconds",
        "metadata",
        "open_calls",
        "pickle",
        "refused",
        "started",
    )

    def __init__(
        self,
        invocation: str,
        capture: str | None = None,
        pickle: bool = False,
        is_step: bool = False,
    ) -> None:
        self.invocation = invocation
        self.is_step = is_step
        self.capture = capture
        self.pickle = pickle
        self.calls: list[dict[str, Any]] = []
        self.open_calls: dict[int, Callable[[], None]] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.metadata: dict[str, Any] = {}
        self.loading_seconds = 0.0
        self.live_text: LiveText | None = None
        self.refused: ContextError | None = None
        self.started = now()

    @property
    def started_at(self) -> str:
        """Start time of the attempt, without the time spent waiting for imports."""
        return later(self.started, self.loading_seconds) if self.loading_seconds else self.started


def completed_record(call: Call, value: StoredValue | None, started: str = "") -> InvocationRecord:
    """Return the record of a call that completed with `value` and has no side data."""
    ended = now()
    return InvocationRecord(
        id=call.id,
        name=call.spec.name,
        kind=call.spec.kind,
        callee=call.spec.callee,
        arguments_digest=call.digest,
        status="completed",
        value=value,
        started_at=started or ended,
        ended_at=ended,
        fingerprint=call.spec.fingerprint(),
        site=call.site,
        position=call.position,
        ordinal=call.ordinal,
        arguments=arguments_of(call),
        uses=lineage.argument_digests(call.args, call.kwargs),
    )


def cancelled_record(call: Call, sequence: int) -> InvocationRecord:
    """Return the record of a call that was cancelled, as completion number `sequence`."""
    return replace(completed_record(call, None), status="cancelled", sequence=sequence)


def from_cache(call: Call, found: InvocationRecord) -> InvocationRecord:
    """Return a record that reuses the result of another invocation or another execution."""
    record = completed_record(call, found.value)
    return replace(
        record,
        attempts=0,
        cached_from=found.cached_from,
        calls=found.calls,
        artifacts=found.artifacts,
        metadata=found.metadata,
    )


def completed(call: Call, running: Running, value: StoredValue, attempts: int) -> Outcome:
    """Return the outcome of a completed attempt. It is not recorded yet."""
    return Outcome(
        replace(
            completed_record(call, value, running.started_at),
            attempts=attempts,
            calls=tuple(running.calls),
            artifacts=tuple(running.artifacts),
            metadata=running.metadata,
        )
    )


def call_function(call: Call, timeout: float | None) -> Any:
    """Call the function of a checkpoint within its time limit and return its value.

    Raises:
        ArgumentChanged: the function changed an argument.
        CheckpointTimeout: the function exceeded the time limit.
    """
    if timeout is None:
        return _call_unchanged(call)
    # A timed-out attempt keeps running. Copies prevent it from changing the objects of the next
    # attempt or of the body.
    own = with_copies(call)
    return bounded(lambda: _call_unchanged(own), timeout, call.id)


def with_copies(call: Call) -> Call:
    """Return the call with copies of its arguments, if they can be recorded."""
    try:
        document = codec.encode([list(call.args), call.kwargs], may_pickle=codec.came_pickled)
    except ValueNotEncodable:
        return call
    args, kwargs = codec.decode(document, unpickle=True)
    return replace(call, args=tuple(args), kwargs=dict(kwargs))


async def await_function(call: Call, timeout: float | None) -> Any:
    """Do what `call_function` does for an async checkpoint, on the running loop."""
    # The loop runs, so asyncio is imported.
    import asyncio

    function = call.spec.coroutine
    assert function is not None
    limit = asyncio.timeout(timeout)
    with _watching(call) as returned:
        try:
            async with limit:
                returned.append(await function(*call.args, **call.kwargs))
        except TimeoutError as error:
            if limit.expired():
                raise timed_out(call.id, timeout or 0.0) from error
            raise
    return returned[0]


def _call_unchanged(call: Call) -> Any:
    with _watching(call) as returned:
        returned.append(call.spec.function(*call.args, **call.kwargs))
    return returned[0]


@contextmanager
def _watching(call: Call) -> Iterator[list[Any]]:
    """Check that the block, which appends the value of the call, changes none of its arguments."""
    watched = _watch(call) if call.size <= _WATCHED_BYTES else []
    returned: list[Any] = []
    try:
        yield returned
    except Exception:
        # Check now: a retry, or an `except` in the body, would otherwise continue with the changed
        # arguments.
        _check_watched(call, watched)
        raise
    _check_watched(call, watched)
    arguments = [argument for _, argument, _ in watched]
    if watched and codec.shares_mutable(returned[0], arguments):
        _warn_shared(call)


def _check_watched(call: Call, watched: list[tuple[str, Any, str]]) -> None:
    for label, argument, before in watched:
        if _digest(argument) != before:
            raise ArgumentChanged(
                f"The checkpoint {call.spec.name} changed its argument {label}: a step in another "
                "process would not see the change.",
                help=f"Work on a copy of {label} inside {call.spec.name}, and return the copy.",
            )


def _watch(call: Call) -> list[tuple[str, Any, str]]:
    given = labelled(call)
    return [(label, v, _digest(v)) for label, v in given if type(v) not in IMMUTABLE]


def _digest(value: Any) -> str:
    return codec.digest_arguments((value,), {}).digest


def _warn_shared(call: Call) -> None:
    # The import takes milliseconds, and most flows never need it.
    import logging

    logging.getLogger("kitaru").warning(
        "%s: the result of %s holds an object that its arguments hold too; the flow gets a copy, "
        "so changing one does not change the other",
        call.site,
        call.spec.name,
    )


def store_result(journal: Journal, call: Call, value: Any) -> StoredValue:
    """Store the return value of a call.

    Raises:
        ValueNotEncodable: the value cannot be recorded.
    """
    allowed = codec.always if call.spec.pickle else codec.never
    try:
        return journal.store_value(value, "result", may_pickle=allowed)
    except ValueTooLarge as error:
        raise ValueTooLarge(
            f"The result of the checkpoint {call.spec.name} cannot be recorded: {error.message}.",
            path=error.path,
            help=error.help,
        ) from None
    except ValueNotEncodable as error:
        or_else = "" if call.spec.pickle else _pickle_help(value)
        raise ValueNotEncodable(
            f"The checkpoint {call.spec.name} returned a value that cannot be recorded: "
            f"{error.message}.",
            path=error.path,
            help="\n".join(filter(None, (error.help, or_else))),
        ) from None


def _pickle_help(value: Any) -> str:
    try:
        codec.encode(value, may_pickle=codec.always)
    except ValueNotEncodable:
        return ""
    return (
        "Or let its result be pickled, which may not come back the same: @checkpoint(pickle=True)"
    )


def failed(
    journal: Journal, call: Call, running: Running, error: Exception, policy: Policy, run: str
) -> Outcome:
    """Record a failed attempt, made in the pipeline run `run`, and return its outcome."""
    # A retry runs the same code and would break the same rule again.
    broken = isinstance(error, ValueNotEncodable | ArgumentChanged | BudgetExceeded)
    failure = exceptions.encode_exception(error)
    info = error_info(error, invocation=call.id)
    for record_open_call in [*running.open_calls.values()]:
        record_open_call()
    kept = journal.add_attempt(
        AttemptRecord(
            id=call.id,
            number=0,
            kind=call.spec.kind,
            callee=call.spec.callee,
            position=call.position,
            error=info,
            failure=failure,
            started_at=running.started_at,
            ended_at=now(),
            calls=tuple(running.calls),
            metadata=running.metadata,
            run=run,
            site=call.site,
            final=broken or not policy.retries_on(error),
        )
    )
    # Pass the body the recorded exception, as every replay does, with the traceback of this run.
    outcome = outcome_of(call, kept)
    assert outcome.error is not None
    outcome.error = outcome.error.with_traceback(error.__traceback__)
    return outcome


def outcome_of(call: Call, kept: AttemptRecord) -> Outcome:
    """Return the recorded failure of an attempt, as seen by the process that ran it."""
    record = replace(
        completed_record(call, None, kept.started_at),
        status="failed",
        failure=kept.failure,
        error=kept.error,
        attempts=kept.number,
        ended_at=kept.ended_at,
        calls=kept.calls,
        metadata=kept.metadata,
    )
    error = exceptions.decode_exception(kept.failure or {})
    assert isinstance(error, Exception), "an exception comes back as one"
    return Outcome(record, sealed=False, error=error, final=kept.final)
