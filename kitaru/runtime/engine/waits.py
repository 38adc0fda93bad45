"""Select the wait for an answer, and validate the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kitaru import hints
from kitaru.errors import AnswerInvalid, NotFound, StateError, UsageError
from kitaru.runtime.codec.json_fast_path import is_atom, is_text
from kitaru.runtime.engine.calls import Call
from kitaru.runtime.journal import children
from kitaru.runtime.journal.audit import audited
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.schema.types import check_answer
from kitaru.wire.actors import actor
from kitaru.wire.limits import MAX_ANSWER_DEPTH
from kitaru.wire.names import some
from kitaru.wire.records import WaitAnswer, WaitRequest
from kitaru.wire.redaction import redacted
from kitaru.wire.times import now

# Maximum length of a displayed path or key.
_SHOWN = 60


def select_wait(journal: Journal, name: str | None, *, any_pending: bool = False) -> WaitRequest:
    """Return the wait called `name`. Without a name, return the only pending wait or the latest.

    An answered wait is returned as well. Repeating its answer is not an error. For a different
    answer, the error contains the first answer.

    Raises:
        NotFound: no wait has that name.
        StateError: the execution has never asked a question, or `name` is a sleep.
        UsageError: several waits are pending and no name was passed; not raised with `any_pending`.
    """
    if name is not None:
        return _named(journal, name)
    pending = journal.pending_waits()
    if len(pending) > 1 and not any_pending:
        raise UsageError(
            f"The execution {journal.exec_id} has {len(pending)} pending waits.",
            help=f"Name one: {some([request.name for request in pending])}",
        )
    if pending:
        return pending[0]
    requests = [request for request in journal.wait_requests() if request.kind == "question"]
    if not requests:
        raise StateError(
            f"The execution {journal.exec_id} waits for nothing.", help=hints.get_help(journal)
        )
    return requests[-1]


def answer(
    journal: Journal, request: WaitRequest, value: Any, *, number: int | None = None
) -> None:
    """Answer a wait with JSON. The first valid answer counts; repeating it is not an error.

    With `number`, the answer has that number or is not recorded.

    Raises:
        AnswerInvalid: the value is not JSON or does not fit the wait's schema; the wait stays
            pending.
        WaitConflict: the wait already has a different answer, or has expired.
        StateError: the flow no longer waits for the answer, or waits for a child or an event.
    """
    if request.child:
        raise StateError(
            f'Nobody can answer the wait "{request.name}": it ends with the execution '
            f"{request.child}, a child of {journal.exec_id}.",
            help="See: " + hints.command(journal.store, "executions", "get", request.child),
        )
    if request.event:
        raise StateError(
            f'Nobody can answer the wait "{request.name}": it ends with an event '
            f"{request.event['name']}.",
            help="Send it: " + hints.send_command(journal.store, request.event),
        )
    if any(outcome.status == "cancelled" for outcome in journal.outcomes([request.name])):
        raise StateError(
            f'The wait "{request.name}" was cancelled: the flow no longer waits for an answer.',
            help=hints.get_help(journal),
        )
    check_json(value, request.name)
    try:
        check_answer(value, request.schema, request.name)
    except AnswerInvalid as error:
        if journal.execution.mode != "local":
            raise
        resume = hints.command(journal.store, "executions", "resume", journal.exec_id)
        help = f"{error.help}\nIf the flow's code asks for something else now: {resume}"
        raise AnswerInvalid(error.message, help=help) from None
    with audited(
        journal.store, "answer", request.name, flow=journal.execution.flow, exec_id=journal.exec_id
    ):
        journal.expire_due([request.name])
        made = WaitAnswer(request.name, "value", value, now(), by=actor())
        journal.answer(made, number=number)


def next_valid_answer(journal: Journal, call: Call, ask: Callable[[], object]) -> WaitAnswer:
    """Return the first answer to a wait that the flow accepts, or its abort.

    `ask` returns when there is an answer.
    """
    while (found := valid_answer(journal, call)) is None:
        ask()
    return found


def valid_answer(journal: Journal, call: Call) -> WaitAnswer | None:
    """Return the recorded answer that the flow accepts, or the abort; None without an answer.

    Some conditions are not part of the JSON schema, such as a validator. Only the flow itself can
    check them.
    """
    while (found := journal.wait_answer(call.id)) is not None:
        try:
            if found.kind == "value":
                call.spec.function(found.value)
            elif children.has_changed(journal.store, found):
                journal.refuse(found, "the child was retried")
                child = found.value["execution"]
                children.look(journal.store, journal.exec_id, call.id, child)
                continue
            break
        except AnswerInvalid as error:
            journal.refuse(found, redacted(error.message))
    return found


def check_json(value: Any, name: str) -> None:
    """Check that a value is JSON that any reader accepts, before any recursive function reads it.

    Raises:
        AnswerInvalid: the value is not such JSON; the message contains the location.
    """
    if reason := not_json(value, name):
        raise AnswerInvalid(
            f"The answer cannot be kept: {reason}.",
            help="Use texts, finite numbers, true, false, null, lists and objects of those.",
        )


def not_json(value: Any, name: str) -> str:
    """Return where and why a value is not portable JSON; empty if it is."""
    pending: list[tuple[Any, str, int]] = [(value, name, 0)]
    while pending:
        part, path, depth = pending.pop()
        if depth > MAX_ANSWER_DEPTH:
            return f"{path[:_SHOWN]}… is nested over {MAX_ANSWER_DEPTH} deep"
        if type(part) is dict and all(type(key) is str and is_text(key) for key in part):
            pending += [
                (held, f"{path}[{key[:_SHOWN]!r}]", depth + 1) for key, held in part.items()
            ]
        elif type(part) is list:
            pending += [(held, f"{path}[{at}]", depth + 1) for at, held in enumerate(part)]
        elif not (is_atom(part) or (type(part) is str and is_text(part))):
            return f"{path} is not valid JSON data"
    return ""


def _named(journal: Journal, name: str) -> WaitRequest:
    # Read it by its exact key: a list may be stale.
    request = journal.wait_request(name)
    if request is not None and request.kind == "timer":
        raise StateError(
            f"{name} of the execution {journal.exec_id} is a sleep until {request.deadline}; "
            "nobody can answer it.",
            help=hints.get_help(journal),
        )
    if request is not None:
        return request
    known = some(journal.pending_names()) or "none"
    raise NotFound(
        f"The execution {journal.exec_id} has no wait {name!a}.", help=f"Pending waits: {known}"
    )
