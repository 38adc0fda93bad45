"""Decides which wait of an execution an answer is for, and whether it is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kitaru.errors import AnswerInvalid, NotFound, StateError, UsageError
from kitaru.runtime.recording import commands
from kitaru.runtime.recording.journal import Journal
from kitaru.runtime.running.calls import Call
from kitaru.runtime.running.schema import check_answer
from kitaru.wire.records import WaitAnswer, WaitRequest
from kitaru.wire.secrecy import redacted
from kitaru.wire.times import now


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
        AnswerInvalid: the value does not fit the wait's schema; it still waits.
        WaitConflict: it was answered before, with another value.
    """
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


def _named(journal: Journal, name: str) -> WaitRequest:
    # By its exact key: a list may be old.
    request = journal.wait_request(name)
    if request is not None:
        return request
    known = ", ".join(r.name for r in journal.pending_waits()) or "none"
    raise NotFound(
        f"The execution {journal.exec_id} has no wait {name!a}.", help=f"Pending waits: {known}"
    )
