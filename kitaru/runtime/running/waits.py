"""Decides which wait of an execution an answer is for, and whether it is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kitaru.errors import AnswerInvalid, NotFound, StateError, UsageError
from kitaru.runtime.codec.plain import is_atom, is_text
from kitaru.runtime.recording import commands
from kitaru.runtime.recording.journal import Journal
from kitaru.runtime.running.calls import Call
from kitaru.runtime.running.schema import check_answer
from kitaru.wire.limits import MAX_ANSWER_DEPTH
from kitaru.wire.records import WaitAnswer, WaitRequest
from kitaru.wire.secrecy import redacted
from kitaru.wire.times import now

# So much of a path or key is shown.
_SHOWN = 60


def pick(journal: Journal, name: str | None, *, any_pending: bool = False) -> WaitRequest:
    """Return the wait called `name`; without a name the only pending one, else the last asked.

    An answered wait is found as well: the same answer twice is no mistake, and another one is told
    what the first one was.

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
            f"The execution {journal.exec_id} waits for nothing.", help=commands.get_help(journal)
        )
    return requests[-1]


def answer(journal: Journal, request: WaitRequest, value: Any) -> None:
    """Answer a wait with JSON; the first valid answer counts, the same one again is no mistake.

    Raises:
        AnswerInvalid: the value is no JSON or does not fit the wait's schema; it still waits.
        WaitConflict: it was answered before, with another value.
    """
    check_json(value, request.name)
    check_answer(value, request.schema, request.name)
    journal.answer(WaitAnswer(request.name, "value", value, now()))


def first_valid(journal: Journal, call: Call, ask: Callable[[], WaitAnswer]) -> WaitAnswer:
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
    pending: list[tuple[Any, str, int]] = [(value, name, 0)]
    while pending:
        part, path, depth = pending.pop()
        if depth > MAX_ANSWER_DEPTH:
            raise _no_json(path[:_SHOWN] + "…", f"is nested over {MAX_ANSWER_DEPTH} deep")
        if type(part) is dict and all(type(key) is str and is_text(key) for key in part):
            pending += [
                (held, f"{path}[{key[:_SHOWN]!r}]", depth + 1) for key, held in part.items()
            ]
        elif type(part) is list:
            pending += [(held, f"{path}[{at}]", depth + 1) for at, held in enumerate(part)]
        elif not (is_atom(part) or (type(part) is str and is_text(part))):
            raise _no_json(path, "is nothing that JSON tells every reader")


def _no_json(path: str, what: str) -> AnswerInvalid:
    return AnswerInvalid(
        f"The answer cannot be kept: {path} {what}.",
        help="Use texts, finite numbers, true, false, null, lists and objects of those.",
    )


def _named(journal: Journal, name: str) -> WaitRequest:
    # By its exact key: a list may be old.
    request = journal.wait_request(name)
    if request is not None:
        return request
    known = ", ".join(r.name for r in journal.pending_waits()) or "none"
    raise NotFound(
        f"The execution {journal.exec_id} has no wait {name!a}.", help=f"Pending waits: {known}"
    )
