"""Show the current state of an execution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitaru.runtime import codec
from kitaru.runtime.executions.deployments import Deployments
from kitaru.runtime.executions.listing import launched, settled_status
from kitaru.runtime.journal import launches
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.states import FINAL, PAUSED
from kitaru.status import ExecutionStatus
from kitaru.view import ExecutionView
from kitaru.wire import canonical, keys
from kitaru.wire.records import ExecutionRecord, StoredValue

if TYPE_CHECKING:
    from kitaru.stores.base import Store
    from kitaru.wire.records import LaunchRecord


def show(store: Store, exec_id: str) -> ExecutionView:
    """Return the current state of an execution; raise NotFound if it does not exist."""
    if store.get(keys.execution(exec_id)) is None:
        launch = launches.recall(store, exec_id)
        if launch is not None and launch.deployment:
            return _launched(store, exec_id, launch)
    journal = Journal.open(store, exec_id)
    state = journal.state()
    pending = journal.pending_requests() if state.status in ("running", *PAUSED) else []
    status, run = ExecutionStatus(state.status), None
    if state.status not in FINAL:
        status, run = settled_status(journal, state)
    return ExecutionView(
        exec_id=exec_id,
        flow=journal.execution.flow,
        status=status,
        waits=tuple(one for one in pending if one.kind == "question"),
        timers=tuple(one for one in pending if one.kind == "timer"),
        waits_for=tuple(one for one in pending if one.kind == "child"),
        events=tuple(one for one in pending if one.kind == "event"),
        error=state.error if state.status in ("failed", "running") else None,
        started_at=journal.execution.started_at,
        state_at=state.at,
        deployment=launches.version(store, exec_id) if journal.execution.target else "",
        journal=journal,
        submission=run if run is not None and run.run else None,
    )


def _launched(store: Store, exec_id: str, launch: LaunchRecord) -> ExecutionView:
    """Return the view of an execution whose first step has recorded nothing yet."""
    status, at, run = launched(store, exec_id)
    version = Deployments(store).get(f"{launch.flow}@v{launch.deployment}")
    document = codec.encode(launch.inputs)
    inputs = StoredValue(document, digest=canonical.digest(document))
    execution = ExecutionRecord(
        exec_id,
        launch.flow,
        "",
        "",
        "deployed",
        inputs,
        "",
        at,
        target=version.target,
        parent=launch.parent,
    )
    return ExecutionView(
        exec_id=exec_id,
        flow=launch.flow,
        status=status,
        waits=(),
        error=None,
        started_at=at,
        state_at=at,
        deployment=version.version,
        journal=Journal(store, execution),
        submission=run if run is not None and run.run else None,
    )
