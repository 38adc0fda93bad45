"""Select the wait that an answer is for, and validate the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kitaru import hints
from kitaru.errors import AnswerInvalid, NotFound, StateError, UsageError
from kitaru.runtime.codec.json_fast_path import is_atom, is_text
from kitaru.runtime.engine.calls import Call
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.schema.types import check_answer
from kitaru.wire.limits import MAX_ANSWER_DEPTH
from kitaru.wire.records import WaitAnswer, WaitRequest
from kitaru.wire.redaction import redacted
from kitaru.wire.times import now

# So much of a path or key is shown.
_SHOWN = 60


def select_wait(journal: Journal, name: str | None, *, any_pending: bool = False) -> WaitRequest:
    """Return the wait called `name`; without a name the only pending one, else the last asked.

    An answered wait is found as well. Repeating its answer is no error. For a different answer, the
    error contains the first one.

    Raises:
        NotFound: there is no wait of that name.
        StateError: nothing was ever asked.
        UsageError: several are pending and none was named; not with `any_pending`.
    """
    if name is not None:
        return _named(journal, name)
    pending = journal.pending_waits()
    if len(pending) > 1 and not any_pending:
        raise UsageError(
            f"The execution {journal.exec_id} has {len(pending)} pending waits.",
            help=f"Name one: {', '.join(request.name for request in pending)}",
        )
    if pending:
        return pending[0]
    requests = journal.wait_requests()
    if not requests:
        raise StateError(
            f"The execution {journal.exec_id} waits for nothing.", help=hints.get_help(journal)
        )
    return requests[-1]


def answer(journal: Journal, request: WaitRequest, value: Any) -> None:
    """Answer a wait with JSON; the first valid answer counts, the same one again is no mistake.

    Raises:
        AnswerInvalid: the value is no JSON or does not fit the wait's schema; it still waits.
        WaitConflict: it was answered before, with another value.
    """
    check_json(value, request.name)
    try:
        check_answer(value, request.schema, request.name)
    except AnswerInvalid as error:
        if journal.execution.mode != "local":
            raise
        resume = hints.command(journal.store, "executions", "resume", journal.exec_id)
        help = f"{error.help}\nIf the flow's code asks for something else now: {resume}"
        raise AnswerInvalid(error.message, help=help) from None
    journal.answer(WaitAnswer(request.name, "value", value, now()))


def next_valid_answer(journal: Journal, call: Call, ask: Callable[[], WaitAnswer]) -> WaitAnswer:
    """Return the first answer to a wait that the call's function can read, or its abort.

    What the JSON schema does not tell, a validator for example, only the flow itself can say.
    """
    while True:
        found = journal.wait_answer(call.id) or ask()
        try:
            if found.kind == "value":
                call.spec.function(found.value)
            return found
        except AnswerInvalid as error:
            journal.refuse(found, redacted(error.message))


def check_json(value: Any, name: str) -> None:
    """Check that a value is JSON that any reader takes, before anything recurses into it.

    Raises:
        AnswerInvalid: it is not; the message says where.
    """
    if reason := not_json(value, name):
        raise AnswerInvalid(
            f"The answer cannot be kept: {reason}.",
            help="Use texts, finite numbers, true, false, null, lists and objects of those.",
        )


def not_json(value: Any, name: str) -> str:
    """Return where and why a value is not JSON that any reader takes, empty when it is."""
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
    # By its exact key: a list may be old.
    request = journal.wait_request(name)
    if request is not None:
        return request
    known = ", ".join(r.name for r in journal.pending_waits()) or "none"
    raise NotFound(
        f"The execution {journal.exec_id} has no wait {name!a}.", help=f"Pending waits: {known}"
    )
