"""Decides what one attempt of a checkpoint leaves behind: a record of its value, or a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kitaru.errors import (
    ArgumentChanged,
    EnvironmentFailure,
    ValueNotEncodable,
    ValueTooLarge,
)
from kitaru.runtime import codec
from kitaru.runtime.observing import telemetry
from kitaru.runtime.recording import failures, lineage
from kitaru.runtime.running.calls import Call
from kitaru.runtime.running.context import Running, Scope, entered
from kitaru.runtime.running.outcomes import Outcome, error_info
from kitaru.runtime.running.retries import Policy, bounded
from kitaru.wire.records import AttemptRecord, InvocationRecord, StoredValue
from kitaru.wire.structs import replace
from kitaru.wire.times import now

if TYPE_CHECKING:
    from kitaru.runtime.running.engine import Execution

# Above this, watching the arguments would cost more than the checkpoint.
_WATCHED_BYTES = 1024 * 1024
_IMMUTABLE = (str, int, float, bool, type(None), bytes, complex)


def run(execution: Execution, call: Call, policy: Policy, failed: int) -> Outcome:
    """Run the function once, after `failed` failed attempts, and return what is to be recorded.

    A failed attempt is kept in the journal; a value is not recorded yet.
    """
    running = Running(call.id, call.spec.capture or execution.capture, call.spec.pickle)
    started = now()
    try:
        span = telemetry.attempt(execution.journal, call, failed + 1)
        with entered(Scope(execution, running)), span:
            value = _call(call, policy.timeout)
            stored = _keep_result(execution, call, value)
    except EnvironmentFailure:
        raise
    except Exception as error:
        # The same code would break the same rule again.
        broken = isinstance(error, ValueNotEncodable | ArgumentChanged)
        final = broken or not policy.again_after(error)
        return _failed(execution, call, running, error, started, final)
    record = plain_record(call, stored, started)
    return Outcome(
        replace(
            record,
            attempts=failed + 1,
            calls=tuple(running.calls),
            artifacts=tuple(running.artifacts),
            metadata=running.metadata,
        )
    )


def plain_record(call: Call, value: StoredValue | None, started: str = "") -> InvocationRecord:
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
        uses=lineage.uses(call.args, call.kwargs),
    )


def from_cache(call: Call, found: InvocationRecord) -> InvocationRecord:
    """Return the record that adopts what another invocation, or another execution, recorded."""
    record = plain_record(call, found.value)
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
        # Before a retry, or the body's `except`, goes on with what this attempt left.
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
    code = getattr(call.spec.function, "__code__", None)
    names = code.co_varnames[: code.co_argcount] if code is not None else ()
    labels = [*names, *(f"#{n + 1}" for n in range(len(names), len(call.args)))]
    given = [*zip(labels, call.args, strict=False), *call.kwargs.items()]
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
        return execution.journal.keep(value, "result", may_pickle=allowed)
    except ValueTooLarge as error:
        raise ValueTooLarge(
            f"The result of the checkpoint {call.spec.name} cannot be recorded: {error.message}.",
            path=error.path,
            help=error.help,
        ) from None
    except ValueNotEncodable as error:
        or_else = "" if call.spec.pickle else _pickle_help(value)
        raise ValueNotEncodable(
            f"The checkpoint {call.spec.name} returned what cannot be recorded: {error.message}.",
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
    failure = failures.encode_exception(error)
    info = error_info(error, invocation=call.id)
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
            started_at=started,
            ended_at=now(),
            calls=calls,
            metadata=metadata,
            run=execution.run,
            final=final,
        )
    )
    # The body sees what every replay will see, with the traceback that only this run has.
    outcome = again(call, kept)
    assert outcome.error is not None
    outcome.error = outcome.error.with_traceback(error.__traceback__)
    return outcome


def again(call: Call, kept: AttemptRecord) -> Outcome:
    """Return the failure of an attempt that is in the journal, as its own process saw it."""
    record = replace(
        plain_record(call, None, kept.started_at),
        status="failed",
        failure=kept.failure,
        error=kept.error,
        attempts=kept.number,
        ended_at=kept.ended_at,
        calls=kept.calls,
        metadata=kept.metadata,
    )
    error = failures.decode_exception(kept.failure or {})
    assert isinstance(error, Exception), "an exception comes back as one"
    return Outcome(record, sealed=False, error=error, final=kept.final)
