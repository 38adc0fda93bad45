"""Turn the end of a child execution into the outcome of its parent's wait."""

from __future__ import annotations

from typing import Any

from kitaru import hints
from kitaru.errors import ChildFailed, NotFound, StateError
from kitaru.runtime.engine import attempts
from kitaru.runtime.engine.calls import Call
from kitaru.runtime.engine.drivers import Driver
from kitaru.runtime.engine.outcomes import Outcome, error_info
from kitaru.runtime.journal import children, exceptions
from kitaru.runtime.journal.journal import Journal
from kitaru.wire.records import StoredValue, WaitAnswer, WaitRequest
from kitaru.wire.structs import replace


def check_own(journal: Journal, request: WaitRequest) -> None:
    """Check that the end of a child will answer this wait.

    Raises:
        StateError: another execution started it, and it has not ended.
    """
    parent = children.parent_of(journal.store, request.child)
    own = parent and f"{journal.exec_id}/{parent.partition('/')[2]}" == parent
    if not own and children.ending(journal.store, request.child) is None:
        raise StateError(
            f"The execution {request.child} is no child of {journal.exec_id}, and has not ended.",
            help="Only its parent can wait for it. Start a child of this execution.",
        )


async def outcome_of_answer(
    journal: Journal, call: Call, answer: WaitAnswer, driver: Driver
) -> Outcome:
    """Return the outcome of a wait for a child, from how the child has ended."""
    child, status = answer.value["execution"], answer.value["status"]
    if status == "completed":
        stored = await driver.use_store(lambda: _copied(journal, child))
        made = attempts.completed_record(call, stored)
        return Outcome(await driver.commit(made, journal.record))
    error = _failure(journal, child, answer.value)
    record = replace(
        attempts.completed_record(call, None),
        status="failed",
        failure=exceptions.encode_exception(error),
        error=error_info(error, invocation=call.id),
    )
    return Outcome(record, sealed=False, error=error, final=True)


def _copied(journal: Journal, child: str) -> StoredValue | None:
    """Store the result of a child with its parent: the child may be removed."""
    source = Journal.open(journal.store, child)
    end = source.end()
    if end is None or end.result is None:
        return None
    return journal.store_document(source.fetch(end.result), end.result.type)


def _failure(journal: Journal, child: str, told: dict[str, Any]) -> ChildFailed:
    status = told["status"]
    if status == "cancelled":
        return ChildFailed(f"The child {child} was cancelled.", child=child, status=status)
    why = ": ".join(filter(None, (told["error"], told["message"])))
    help = ""
    if _is_deployed(journal, child):
        retry = hints.command(journal.store, "executions", "retry", child)
        help = f"Retry the child first: {retry}"
    return ChildFailed(
        f"The child {child} failed with {why}", child=child, status=status, help=help
    )


def _is_deployed(journal: Journal, child: str) -> bool:
    """Return whether a child runs on a target. A retry of its parent does not retry it."""
    try:
        return Journal.open(journal.store, child).execution.mode == "deployed"
    except NotFound:
        return True
