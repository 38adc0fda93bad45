"""Decides which invocation of an execution a person means, recorded or not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kitaru.errors import NotFound, StateError, UsageError
from kitaru.runtime.recording import commands
from kitaru.runtime.recording.journal import Journal
from kitaru.wire.records import InvocationKind, InvocationRecord
from kitaru.wire.structs import Struct


class Known(Struct):
    """One invocation of an execution, as far as its journal knows it.

    `record` is None while it has no outcome: it failed, or waits for an answer.
    """

    id: str
    name: str
    kind: InvocationKind
    callee: str
    position: int
    record: InvocationRecord | None = None


def known(journal: Journal) -> list[Known]:
    """Return the invocations of an execution that left any trace, in program order."""
    recorded = [Known(r.id, r.name, r.kind, r.callee, r.position, r) for r in journal.invocations()]
    ids = {one.id for one in recorded}
    failed = [Known(a.id, a.id, a.kind, a.callee, a.position) for a in journal.attempts()]
    # Not the pending ones alone: an execution that was aborted has answers, and no record of them.
    asked = [
        Known(w.name, w.name, "wait", "kitaru.wait", w.position) for w in journal.wait_requests()
    ]
    others = {one.id: one for one in (*failed, *asked) if one.id not in ids}
    return sorted([*recorded, *others.values()], key=lambda one: one.position)


def select(journal: Journal, calls: Sequence[Known], selector: str) -> Known:
    """Return the invocation with the id `selector`, else the only one of that name.

    Raises:
        NotFound: there is none.
        UsageError: several have that name.
    """
    found = [one for one in calls if one.id == selector]
    found = found or [one for one in calls if one.name == selector]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(
            f'Several invocations of {journal.exec_id} are called "{selector}".',
            help=f"Name one by its id: {_ids(found)}",
        )
    raise NotFound(
        f'The execution {journal.exec_id} has no invocation "{selector}".',
        help=f"It has: {_ids(calls) or 'none'}",
    )


def failure(journal: Journal, calls: Sequence[Known]) -> Known | None:
    """Return the invocation that an execution failed in; None where it broke off in between.

    Raises:
        StateError: it is completed.
    """
    state = journal.state()
    if state.status == "completed":
        raise StateError(
            f"The execution {journal.exec_id} did not fail, it is completed.",
            help=f"Name where to replay from: --from {_ids(calls) or 'ID'}\n"
            + commands.get_help(journal),
        )
    failed = state.error.invocation if state.status == "failed" and state.error else ""
    return next((one for one in calls if one.id == failed), None)


def _ids(calls: Iterable[Known]) -> str:
    return ", ".join(one.id for one in calls)
