"""Run one attempt of a checkpoint, and turn its outcome into a record."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kitaru.errors import (
    ArgumentChanged,
    EnvironmentFailure,
    ValueNotEncodable,
    ValueTooLarge,
)
from kitaru.runtime import codec
from kitaru.runtime.engine.argument_texts import arguments_of, labelled
from kitaru.runtime.engine.calls import Call
from kitaru.runtime.engine.context import Running, Scope, entered
from kitaru.runtime.engine.outcomes import Outcome, error_info
from kitaru.runtime.engine.retries import Policy, bounded
from kitaru.runtime.journal import exceptions, lineage
from kitaru.runtime.llm import preload
from kitaru.runtime.telemetry import spans
from kitaru.wire.records import AttemptRecord, InvocationRecord, StoredValue
from kitaru.wire.structs import replace
from kitaru.wire.times import later, now

if TYPE_CHECKING:
    from kitaru.runtime.engine.execution import Execution

# Above this, watching the arguments would cost more than the checkpoint.
_WATCHED_BYTES = 1024 * 1024
_IMMUTABLE = (str, int, float, bool, type(None), bytes, complex)


def run_attempt(execution: Execution, call: Call, policy: Policy, failed: int) -> Outcome:
    """Run the function once, after `failed` failed attempts, and return what is to be recorded.

    A failed attempt is kept in the journal; a value is not recorded yet.
    """
    preload.finish(call.spec.function)
    running = Running(call.id, call.spec.capture or execution.capture, call.spec.pickle)
    started = now()
    execution.attempting[call.id] = time.monotonic()
    try:
        span = spans.attempt(execution.journal, call, failed + 1)
        with entered(Scope(execution, running)), span:
            value = _call(call, policy.timeout)
            execution.leave_fork()
            stored = _keep_result(execution, call, value)
    except EnvironmentFailure:
        raise
    except Exception as error:
        execution.leave_fork(error)
        # The same code would break the same rule again.
        broken = isinstance(error, ValueNotEncodable | ArgumentChanged)
        final = broken or not policy.retries_on(error)
        return _failed(execution, call, running, error, started, final)
    finally:
        execution.attempting.pop(call.id, None)
    record = completed_record(call, stored, _without_loading(started, running))
    return Outcome(
        replace(
            record,
            attempts=failed + 1,
            calls=tuple(running.calls),
            artifacts=tuple(running.artifacts),
            metadata=running.metadata,
        )
    )


def _without_loading(started: str, running: Running) -> str:
    """Return when the attempt started, less the time that it waited for the import of a library."""
    return later(started, running.loading_seconds) if running.loading_seconds else started


def completed_record(call: Call, value: StoredValue | None, started: str = "") -> InvocationRecord:
    """Return the record of a call that completed with `value` and left nothing else."""
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


def from_cache(call: Call, found: InvocationRecord) -> InvocationRecord:
    """Return the record that adopts what another invocation, or another execution, recorded."""
    record = completed_record(call, found.value)
    return replace(
        record,
        attempts=0,
        cached_from=found.cached_from,
        calls=found.calls,
        artifacts=found.artifacts,
        metadata=found.metadata,
    )


def _call(call: Call, timeout: float | None) -> Any:
    if timeout is None:
        return _call_unchanged(call)
    # An attempt that outlives its time must not change what the next one, or the body, works on.
    own = _with_copies(call)
    return bounded(lambda: _call_unchanged(own), timeout, call.id)


def _with_copies(call: Call) -> Call:
    try:
        document = codec.encode([list(call.args), call.kwargs], may_pickle=codec.came_pickled)
    except ValueNotEncodable:
        return call
    args, kwargs = codec.decode(document, unpickle=True)
    return replace(call, args=tuple(args), kwargs=dict(kwargs))


def _call_unchanged(call: Call) -> Any:
    watched = _watch(call) if call.size <= _WATCHED_BYTES else []
    try:
        value = call.spec.function(*call.args, **call.kwargs)
    except Exception:
        # Check before a retry, or the body's `except`, continues with the changes of this attempt.
        _check_watched(call, watched)
        raise
    _check_watched(call, watched)
    if watched and codec.shares_mutable(value, [argument for _, argument, _ in watched]):
        _warn_shared(call)
    return value


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
    return [(label, v, _digest(v)) for label, v in given if type(v) not in _IMMUTABLE]


def _digest(value: Any) -> str:
    return codec.digest_arguments((value,), {}).digest


def _warn_shared(call: Call) -> None:
    # Costs milliseconds to import, and most flows never need it.
    import logging

    logging.getLogger("kitaru").warning(
        "%s: the result of %s holds an object that its arguments hold too; the flow gets a copy, "
        "so changing one does not change the other",
        call.site,
        call.spec.name,
    )


def _keep_result(execution: Execution, call: Call, value: Any) -> StoredValue:
    allowed = codec.always if call.spec.pickle else codec.never
    try:
        return execution.journal.store_value(value, "result", may_pickle=allowed)
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


def _failed(
    execution: Execution,
    call: Call,
    running: Running,
    error: Exception,
    started: str,
    final: bool,
) -> Outcome:
    failure = exceptions.encode_exception(error)
    info = error_info(error, invocation=call.id)
    if running.open_calls:
        from kitaru.runtime.llm.model_calls import keep_open_calls

        keep_open_calls(execution.journal, running)
    calls, metadata = tuple(running.calls), running.metadata
    kept = execution.journal.add_attempt(
        AttemptRecord(
            id=call.id,
            number=0,
            kind=call.spec.kind,
            callee=call.spec.callee,
            position=call.position,
            error=info,
            failure=failure,
            started_at=_without_loading(started, running),
            ended_at=now(),
            calls=calls,
            metadata=metadata,
            run=execution.run,
            final=final,
        )
    )
    # The body sees what every replay will see, with the traceback that only this run has.
    outcome = outcome_of(call, kept)
    assert outcome.error is not None
    outcome.error = outcome.error.with_traceback(error.__traceback__)
    return outcome


def outcome_of(call: Call, kept: AttemptRecord) -> Outcome:
    """Return the failure of an attempt that is in the journal, as its own process saw it."""
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
