"""Cancel an execution: directly, or instead of answering its pending wait."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kitaru import hints
from kitaru.errors import KitaruError, StateError
from kitaru.ops.advance import move
from kitaru.ops.notify import Notice, notify_end
from kitaru.ops.show import show
from kitaru.runtime.engine.local_run import running_here
from kitaru.runtime.engine.waits import select_wait
from kitaru.runtime.journal import children, launches, places, rounds
from kitaru.runtime.journal.audit import audited
from kitaru.runtime.journal.journal import Journal, cancel_for
from kitaru.wire import keys
from kitaru.wire.actors import actor
from kitaru.wire.records import EndRecord, WaitAnswer
from kitaru.wire.times import now

if TYPE_CHECKING:
    from kitaru.stores.base import Store
    from kitaru.view import ExecutionView


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A cancelled execution, and the notification of its orchestrator."""

    view: ExecutionView
    notice: Notice | None


def cancel(store: Store, exec_id: str) -> Cancelled:
    """Cancel an execution permanently. It stops at its next durable call, wherever it runs.

    Its children are cancelled as well, except those that it started with `on_cancel="abandon"`.
    Records are kept. A run that its orchestrator keeps open is ended as well. Cancelling a
    cancelled execution changes nothing.

    Raises:
        NotFound: the execution does not exist.
        StateError: the execution is completed.
        EnvironmentFailure: the execution is cancelled, but the orchestrator cannot be notified.
    """
    notice = cancel_execution(store, exec_id)
    return Cancelled(show(store, exec_id), notice)


def cancel_execution(store: Store, exec_id: str) -> Notice | None:
    """Cancel an execution as `cancel` does, and return the notification of its orchestrator."""
    launch = launches.recall(store, exec_id)
    if launch is not None and store.get(keys.execution(exec_id)) is None:
        # Such as an execution that waits for a place. Its first step finds the end.
        with audited(store, "cancel", flow=launch.flow, exec_id=exec_id):
            cancel_for(store, exec_id, actor())
        places.dequeue(store, launch.flow, exec_id)
        move(store, exec_id)
        return None
    journal = Journal.open(store, exec_id)
    with audited(store, "cancel", flow=journal.execution.flow, exec_id=exec_id):
        _cancel(journal)
    if journal.execution.limits:
        places.dequeue(store, journal.execution.flow, exec_id)
    return _stopped(journal)


def _cancel(journal: Journal) -> None:
    # If this process is killed now, no other process writes a state for a cancelled execution.
    journal.ensure_listed()
    if journal.finish(EndRecord("cancelled", None, now(), by=actor())).status == "completed":
        raise StateError(
            f"The execution {journal.exec_id} is completed; there is nothing to cancel.",
            help=hints.get_help(journal),
        )


def _stopped(journal: Journal) -> Notice | None:
    notice = _stop(journal)
    _stop_children(journal.store, journal.exec_id)
    return notice


def _stop(journal: Journal) -> Notice | None:
    """Stop the run of a cancelled execution: here, or on its orchestrator."""
    run = running_here(journal)
    if run is not None:
        run.resume()
    notice = notify_end(journal) if journal.execution.mode == "deployed" else None
    rounds.drop(journal.store, keys.due_ended(journal.exec_id))
    return notice


def _stop_children(store: Store, exec_id: str) -> None:
    """Stop the runs of the children that were cancelled with their parent."""
    for one in children.notes(store, exec_id):
        if one.on_cancel == "cancel":
            # If it has not begun, nothing runs. If its orchestrator cannot be reached, its hint
            # stays for a dispatcher, and the run ends at its next durable call.
            with suppress(KitaruError):
                _stop(Journal.open(store, one.exec_id))
            _stop_children(store, one.exec_id)


def abort(store: Store, exec_id: str, wait: str | None = None) -> Cancelled:
    """Cancel an execution instead of answering its pending wait.

    Raises:
        WaitConflict: the wait already has an answer.
        NotFound: the execution or the wait does not exist.
        StateError: the execution has never asked a question.
        EnvironmentFailure: raised under the same conditions as by `cancel`.
    """
    journal = Journal.open(store, exec_id)
    request = select_wait(journal, wait, any_pending=True)
    with audited(store, "abort", request.name, flow=journal.execution.flow, exec_id=exec_id):
        journal.answer(WaitAnswer(request.name, "abort", None, now(), by=actor()))
        _cancel(journal)
    notice = _stopped(journal)
    return Cancelled(show(store, exec_id), notice)
