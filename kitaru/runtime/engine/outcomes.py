"""Turn the record of an invocation into a value or an exception in the flow's body."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from kitaru import hints
from kitaru.errors import AnswerInvalid, Diverged, KitaruError, PickleRefused, WaitExpiredError
from kitaru.runtime import codec
from kitaru.runtime.codec.qualified_names import is_same_callee
from kitaru.runtime.engine.argument_texts import arguments_of, changes
from kitaru.runtime.engine.calls import Call
from kitaru.runtime.journal import exceptions
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.to_json import as_json
from kitaru.wire.records import ErrorInfo, InvocationRecord, WaitAnswer, WaitRequest
from kitaru.wire.redaction import redacted
from kitaru.wire.structs import replace


class Outcome:
    """The outcome of an invocation.

    `record` is the record in the store. For a failure that is not sealed yet (`sealed` is false),
    `record` is what would be written. `error` is the exception as raised in this process. `final`
    is true if a retry would not help.
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
    """Decode the value again, or return the exception to raise.

    Raises:
        Diverged: the value was pickled, and the reader does not allow loading pickles.
    """
    record = outcome.record
    if record.status == "failed":
        return None, outcome.error or _decoded(record)
    if record.value is None:
        return None, None
    try:
        where = f'The result of "{record.id}" of execution {journal.exec_id}'
        return codec.decode(journal.fetch(record.value), unpickle=unpickle, where=where), None
    except PickleRefused as error:
        raise Diverged(
            f'The record of "{record.id}" contains a pickle, and {record.callee} does not set '
            "pickle=True.",
            help=f"Set @checkpoint(pickle=True), or start a new execution. {error.help}",
        ) from None


def read_value(journal: Journal, call: Call, record: InvocationRecord, value: Any) -> Any:
    """Return what a call makes of its recorded value.

    Raises:
        Diverged: another version of the code wrote the value, and this version cannot read it.
    """
    read = call.spec.read
    if read is None or record.status != "completed":
        return value
    try:
        return read(value)
    except Exception as error:
        now = call.spec.fingerprint()
        if record.fingerprint == now:
            raise
        then = record.fingerprint or "another version"
        again = ("executions", "replay", journal.exec_id, "--from", record.id)
        raise Diverged(
            f'The record of "{record.id}" was written with {then}, and {now} cannot read it: '
            f"{error}",
            help=f"Finish the execution with {then}, or make the call again:\n"
            + hints.command(journal.store, *again),
        ) from error


def answer_of(journal: Journal, call: Call, record: InvocationRecord) -> Any:
    """Return the recorded answer to a wait.

    Raises:
        Diverged: the flow's code now expects another type, and the answer does not match it.
        WaitExpiredError: the wait expired without a default.
    """
    value, expired = value_of(journal, Outcome(record), unpickle=False)
    if expired is not None:
        raise expired
    try:
        call.spec.function(value)
    except AnswerInvalid as error:
        raise Diverged(
            f'The wait "{call.id}" was answered, but its code now expects another type '
            f"(now at {call.site}). {error.message}",
            help="Let the wait accept answers of both types, or ask the new question under "
            f'another name:\n    kitaru.removed(wait="{call.spec.name}")\n'
            f"The answer stays recorded. {hints.retry_help(journal)}",
        ) from None
    return value


def expired_record(
    journal: Journal, made: InvocationRecord, request: WaitRequest, answer: WaitAnswer
) -> InvocationRecord:
    """Return the outcome of a wait that expired: its default, or WaitExpiredError without one."""
    if request.kind == "timer" or request.default:
        return made
    error = WaitExpiredError(
        f'The wait "{request.name}" of execution {journal.exec_id} expired: '
        f"{_missing(request)} until {request.deadline}.",
        help="Catch kitaru.errors.WaitExpiredError, or pass a default to the wait. "
        "The expiry is recorded, so a retry raises it again.",
    )
    failure = exceptions.encode_exception(error)
    info = error_info(error, invocation=request.name)
    return replace(made, status="failed", value=None, failure=failure, error=info)


def _missing(request: WaitRequest) -> str:
    event = request.event
    return f"no event {event['name']} that fits came" if event else "nobody answered"


def error_info(error: BaseException, *, invocation: str = "", help: str = "") -> ErrorInfo:
    """Return the readable form of an exception that records contain."""
    cls = type(error)
    own = error.help if isinstance(error, KitaruError) else ""
    module = "" if cls.__module__ == "builtins" else f"{cls.__module__}."
    return ErrorInfo(
        type=module + cls.__qualname__,
        message=redacted(error.message if isinstance(error, KitaruError) else str(error)),
        traceback=redacted(exceptions.user_traceback(error)),
        help=redacted("\n".join(filter(None, (own, help)))),
        invocation=invocation,
    )


def origin_of(error: BaseException | None, failed: Mapping[str, Outcome]) -> str:
    """Return the id of the failed invocation that raised an exception, if there is one."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        for name, outcome in failed.items():
            if outcome.error is error:
                return name
        error = error.__cause__ or error.__context__
    return ""


def release_frames(error: BaseException) -> None:
    """Clear the variables of the frames that raised an exception, to free their memory."""
    frames = error.__traceback__
    while frames is not None:
        # A frame that still runs, such as the caller's own, keeps its variables.
        with suppress(RuntimeError):
            frames.tb_frame.clear()
        frames = frames.tb_next


def check_same(journal: Journal, call: Call, record: InvocationRecord) -> None:
    """Compare a call with the record stored under its id.

    Raises:
        Diverged: the record is of another function or of other arguments.
    """
    spec, details, declare = call.spec, "", ""
    is_known = call.renamed or is_same_callee(record.callee, spec.callee)
    if record.kind != spec.kind or not is_known:
        what = f"{record.callee} was recorded, but the flow now calls {spec.callee}"
        if record.kind == spec.kind == "checkpoint":
            old, new = record.callee.replace(".", ":", 1), spec.callee.partition(".")[2]
            declare = f'If it was moved, declare it:\n    kitaru.moved("{old}", {new})\n'
    elif spec.compared and not record.given and record.arguments_digest != call.digest:
        what = f"{record.callee} was recorded with other arguments"
        details = changed_arguments(call, record)
    else:
        return
    raise Diverged(
        f'Non-deterministic replay at "{call.id}": {what} '
        f"(recorded at {record.site or 'an unknown line'}, now at {call.site}).{details}",
        help=declare + _way_out(journal, record),
    )


def changed_arguments(call: Call, record: InvocationRecord) -> str:
    """Return the arguments in which a call differs from its record, as lines of a message."""
    now_shown = arguments_of(call) if record.arguments else {}
    lines = changes(record.arguments, now_shown) if now_shown else []
    if lines:
        return "".join(f"\n  {line}" for line in lines)
    if now_shown:
        return " The values look equal: one is now passed by keyword, or has another type."
    was, now = _short(record.arguments_digest), _short(call.digest)
    return f" They cannot be shown; their digest was {was} and is now {now}."


def _way_out(journal: Journal, record: InvocationRecord) -> str:
    if not record.adopted_from:
        return (
            "A flow's body must be deterministic: read times, random numbers and other external "
            "values inside checkpoints. If the flow's code changed, restore it and retry, or "
            "replay from here with the new code:\n"
            + hints.command(
                journal.store, "executions", "replay", journal.exec_id, "--from", record.id
            )
        )
    return (
        "The replay reused this result, but a changed input or changed code now makes another "
        "call. Run it again as well:\n"
        f"{_replay_again(journal, record.id)}\n"
        f"or inject its result: --set {record.kind}.{record.id}=VALUE"
    )


def _replay_again(journal: Journal, start: str) -> str:
    """Return the command of a replay that reuses only the records before `start`."""
    replay = journal.execution.replay
    assert replay is not None, "only a replay reuses anything"
    changed = [f"model.{alias}={model}" for alias, model in replay.models.items()]
    changed += [_injected(journal, id) for id in replay.results]
    inputs = as_json(journal.fetch(journal.execution.inputs)) if replay.inputs else {}
    words = [word for text in changed for word in ("--set", text)]
    words += [w for name in replay.inputs for w in ("--input", f"{name}={_json(inputs[name])}")]
    return hints.command(
        journal.store, "executions", "replay", replay.source, "--from", start, *words
    )


def _injected(journal: Journal, id: str) -> str:
    record = journal.invocation(id)
    assert record is not None and record.value is not None, "what was injected is recorded"
    return f"{record.kind}.{id}={_json(as_json(journal.fetch(record.value)))}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _decoded(record: InvocationRecord) -> Exception:
    error = exceptions.decode_exception(record.failure or {})
    assert isinstance(error, Exception), "only exceptions are ever recorded"
    return error


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]
