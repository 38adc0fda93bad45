"""Show the current state of an execution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitaru.runtime.journal import launches
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.states import FINAL, shown_status
from kitaru.status import ExecutionStatus
from kitaru.view import ExecutionView

if TYPE_CHECKING:
    from kitaru.stores.base import Store


def show(store: Store, exec_id: str) -> ExecutionView:
    """Return the current state of an execution; raise NotFound if it does not exist."""
    journal = Journal.open(store, exec_id)
    state = journal.state()
    started_at = journal.execution.started_at
    status = ExecutionStatus(shown_status(store, exec_id, started_at, state.status))
    pending = journal.pending_waits() if state.status in ("running", "waiting") else []
    is_open = journal.execution.mode == "deployed" and state.status not in FINAL and not pending
    runs = launches.submissions(store, exec_id, state.number) if is_open else []
    if status == "waiting" and not pending:
        status = ExecutionStatus.SUBMITTED if runs else ExecutionStatus.ANSWERED
    return ExecutionView(
        exec_id=exec_id,
        flow=journal.execution.flow,
        status=status,
        waits=tuple(pending),
        error=state.error if state.status == "failed" else None,
        started_at=started_at,
        state_at=state.at,
        deployment=launches.version(store, exec_id) if journal.execution.target else "",
        journal=journal,
        submission=runs[-1] if runs else None,
    )
