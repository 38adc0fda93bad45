"""Run one attempt of a checkpoint, and turn its outcome into a record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kitaru.errors import ArgumentChanged, ValueNotEncodable, ValueTooLarge
from kitaru.runtime import codec
from kitaru.runtime.engine.argument_texts import arguments_of, labelled
from kitaru.runtime.engine.calls import Call
from kitaru.runtime.engine.outcomes import Outcome, error_info
from kitaru.runtime.engine.retries import Policy, bounded
from kitaru.runtime.journal import exceptions, lineage
from kitaru.runtime.journal.journal import Journal
from kitaru.wire.records import AttemptRecord, InvocationRecord, StoredValue
from kitaru.wire.structs import replace
from kitaru.wire.times import later, now

# Above this, watching the arguments would cost more than the checkpoint.
_WATCHED_BYTES = 1024 * 1024
_IMMUTABLE = (str, int, float, bool, type(None), bytes, complex)


class Running:
    """One attempt of one invocation, and what it leaves beside its value.

    `capture` is what the decorators say is to be kept of its model calls, None for nothing,
    `pickle` whether it may load pickles. `loading_seconds` is how long it waited for the import of
    a library that reaches a model, which is not time of its own. `open_calls` are the model calls
    that have not been answered yet, each with what records it: an attempt that is given up leaves
    them behind.
    """

    __slots__ = (
        "artifacts",
        "calls",
        "capture",
        "invocation",
        "loading_seconds",
        "metadata",
        "open_calls",
        "pickle",
        "started",
    )

    def __init__(self, invocation: str, capture: str | None = None, pickle: bool = False) -> None:
        self.invocation = invocation
        self.capture = capture
        self.pickle = pickle
        self.calls: list[dict[str, Any]] = []
        self.open_calls: dict[int, Callable[[], None]] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.metadata: dict[str, Any] = {}
        self.loading_seconds = 0.0
        self.started = now()

    @property
    def started_at(self) -> str:
        """When it started, less the time that it waited for the import of a library."""
        return later(self.started, self.loading_seconds) if self.loading_seconds else self.started


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


def completed(call: Call, running: Running, value: StoredValue, attempts: int) -> Outcome:
    """Return the outcome of an attempt that completed; it is not recorded yet."""
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
    """Return what the function of a call returns, within so many seconds.

    Raises:
        ArgumentChanged: it changed an argument.
        CheckpointTimeout: it took longer.
    """
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


def store_result(journal: Journal, call: Call, value: Any) -> StoredValue:
    """Store what the function of a call returned.

    Raises:
        ValueNotEncodable: it cannot be recorded.
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
    """Record a failed attempt, made in a `run` of a pipeline, and return its outcome."""
    # The same code would break the same rule again.
    broken = isinstance(error, ValueNotEncodable | ArgumentChanged)
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
            final=broken or not policy.retries_on(error),
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
