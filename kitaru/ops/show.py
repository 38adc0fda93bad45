"""Show the current state of an execution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitaru.runtime import codec
from kitaru.runtime.executions.deployments import Deployments
from kitaru.runtime.executions.listing import settled_status
from kitaru.runtime.journal import launches, places
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.journal.rounds import newest_round
from kitaru.runtime.journal.states import FINAL, PAUSED, read_end
from kitaru.status import ExecutionStatus
from kitaru.view import ExecutionView
from kitaru.wire import canonical, keys
from kitaru.wire.flow_limits import recorded_limits
from kitaru.wire.records import ExecutionRecord, StoredValue, SubmissionRecord

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
    if status == "running" and _waits_here(journal):
        status = ExecutionStatus.QUEUED
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


def _waits_here(journal: Journal) -> bool:
    """Return whether an execution waits for a place in its caller's process."""
    execution = journal.execution
    limits = recorded_limits(execution) if execution.mode == "local" else None
    if limits is None:
        return False
    records = RecordStore(journal.store)
    return not places.has_place(records, limits.flow, f"{execution.exec_id}.0")


def _launched(store: Store, exec_id: str, launch: LaunchRecord) -> ExecutionView:
    """Return the view of an execution whose first step has recorded nothing yet."""
    records = RecordStore(store)
    found = newest_round(records, exec_id)
    claim = records.read(SubmissionRecord, keys.round_claim(exec_id, found.number + 1, 1))
    run = found.run or found.taken or claim
    hint = store.get(keys.due_launch(exec_id))
    queued = places.waits_since(store, exec_id, 1)
    at = run.at if run is not None else (hint or b"").decode("ascii")
    if run is None and queued is not None:
        at = queued[0]
    end = read_end(records, exec_id)
    status = ExecutionStatus.QUEUED if run is None else ExecutionStatus.STARTING
    if end is not None:
        # It was cancelled before its first step.
        status, at = ExecutionStatus(end.status), at or end.at
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
