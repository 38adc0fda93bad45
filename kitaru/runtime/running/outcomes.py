"""Decides how an invocation's record becomes a value or an exception in the flow's body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kitaru.errors import Diverged, KitaruError, PickleRefused
from kitaru.runtime import codec
from kitaru.runtime.recording import commands, failures
from kitaru.runtime.recording.journal import Journal
from kitaru.runtime.running.calls import Call
from kitaru.wire.records import ErrorInfo, InvocationRecord
from kitaru.wire.secrecy import redacted


class Outcome:
    """How an invocation came out.

    `record` is the one the store holds, or for a failure that nothing has gone on past yet
    (`sealed` is false) the one that it would become. `error` is that failure as it was raised here,
    and `final` says that trying again would not help.
    """

    __slots__ = ("error", "final", "record", "sealed")

    def __init__(
        self,
        record: InvocationRecord,
        *,
        sealed: bool = True,
        error: Exception | None = None,
        final: bool = False,
    ) -> None:
        self.record = record
        self.sealed = sealed
        self.error = error
        self.final = final


def value_of(journal: Journal, outcome: Outcome, *, unpickle: bool) -> tuple[Any, Exception | None]:
    """Return a fresh decode of the value, or the exception to raise.

    Raises:
        Diverged: it was pickled, and whoever asks did not allow to load it.
    """
    record = outcome.record
    if record.status == "failed":
        return None, outcome.error or _decoded(record)
    if record.value is None:
        return None, None
    try:
        return codec.decode(journal.fetch(record.value), unpickle=unpickle), None
    except PickleRefused as error:
        raise Diverged(
            f'What is recorded as "{record.id}" holds a pickle, and {record.callee} does not say '
            "that its results may be pickled.",
            help=f"Say @checkpoint(pickle=True), or start a new execution. {error.help}",
        ) from None


def error_info(error: BaseException, *, invocation: str = "", help: str = "") -> ErrorInfo:
    """Return an exception as records show it to people."""
    cls = type(error)
    own = error.help if isinstance(error, KitaruError) else ""
    module = "" if cls.__module__ == "builtins" else f"{cls.__module__}."
    return ErrorInfo(
        type=module + cls.__qualname__,
        message=redacted(error.message if isinstance(error, KitaruError) else str(error)),
        traceback=redacted(failures.user_traceback(error)),
        help=redacted("\n".join(filter(None, (own, help)))),
        invocation=invocation,
    )


def origin_of(error: BaseException | None, failed: Mapping[str, Outcome]) -> str:
    """Return the id of the failed invocation that an exception comes from, or nothing."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        for name, outcome in failed.items():
            if outcome.error is error:
                return name
        error = error.__cause__ or error.__context__
    return ""


def check_same(journal: Journal, call: Call, record: InvocationRecord) -> None:
    """Compare a call with what was recorded under its id.

    Raises:
        Diverged: another function was called there, or with other arguments.
    """
    spec = call.spec
    if record.callee != spec.callee or record.kind != spec.kind:
        what = f"{record.callee} was recorded, now it is {spec.callee}"
    elif spec.compared and not record.given and record.arguments_digest != call.digest:
        what = (
            f"{record.callee} was recorded with arguments {_short(record.arguments_digest)}, "
            f"now they are {_short(call.digest)}"
        )
    else:
        return
    raise Diverged(
        f'The execution went another way than before at "{call.id}": {what} '
        f"(recorded at {record.site or 'an unknown line'}, now at {call.site}).",
        help=_way_out(journal, record),
    )


def _way_out(journal: Journal, record: InvocationRecord) -> str:
    if not record.adopted_from:
        return (
            "A flow's body must do the same again: take times, random numbers and other outside "
            "values inside checkpoints. If the flow's code changed, start a new execution."
        )
    return (
        "The replay took this result over, and another input or other code now asks for something "
        "else. Let it run, too:\n"
        f"{commands.replay_help(journal, record.id)}\n"
        f"or say what it shall return: --set {record.kind}.{record.id}=VALUE"
    )


def _decoded(record: InvocationRecord) -> Exception:
    error = failures.decode_exception(record.failure or {})
    assert isinstance(error, Exception), "only exceptions are ever recorded"
    return error


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]
