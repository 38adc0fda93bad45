"""Replay an execution from a point, with changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitaru.errors import KitaruError
from kitaru.loading import load_flow
from kitaru.local_flow import replay as replay_here
from kitaru.ops.advance import submit
from kitaru.ops.resume import Resumed
from kitaru.ops.submit import (
    cancels_of,
    check_process,
    check_service,
    handle_of,
    recorded,
    runs_here,
)
from kitaru.runtime.engine.inputs import changed_json
from kitaru.runtime.executions.replay import Changes, adopt
from kitaru.runtime.journal import launches
from kitaru.runtime.journal.audit import audited
from kitaru.runtime.journal.journal import Journal
from kitaru.wire.structs import replace

if TYPE_CHECKING:
    from kitaru.stores.base import Store


def replay(store: Store, exec_id: str, changes: Changes, *, submits: bool = True) -> Resumed:
    """Create an execution that reuses the records before a point, and run the later calls again.

    A replay of a local execution runs in this process. A replay for the target `local` runs in a
    process of its own. For a service, the remaining steps are submitted to it. A dry run is only
    created: it runs where its build is.

    Args:
        submits: whether to start a run for a deployed execution; if false, it is only created.

    Raises:
        NotFound: the execution or the invocation does not exist.
        StateError: a replay at the failure was requested, but the execution has not failed.
        UsageError: a name is ambiguous, or a result cannot be injected.
        InputError: an input is unknown or does not fit its annotation.
        FlowError: the flow's module cannot be imported.
        EnvironmentFailure: a package or an SDK is missing, or the store or the service refused.
    """
    source = Journal.open(store, exec_id)
    with audited(store, "replay", changes.start, flow=source.execution.flow, exec_id=exec_id):
        return _replay(source, changes, submits=submits)


def _replay(source: Journal, changes: Changes, *, submits: bool) -> Resumed:
    store = source.store
    if source.execution.mode == "local":
        return Resumed(replay_here(load_flow(source.execution), source, changes))
    document = None
    if changes.inputs:
        earlier = source.fetch(source.execution.inputs)
        document = changed_json(source.execution.flow, earlier, changes.inputs)
    submits = submits and source.execution.mode == "deployed"
    if submits:
        (check_process if runs_here(source) else check_service)(source)
    replayed = adopt(source, changes, document)
    launch = launches.recall(store, source.exec_id)
    if launch is not None:
        inputs = {**launch.inputs, **changes.inputs}
        number = launch.deployment
        cancels = cancels_of(store, launch.flow, number, inputs) if number else {}
        made = replace(launch, inputs=inputs, event="", cancel_on=cancels)
        launches.record_launch(store, replayed.exec_id, made)
    if not submits:
        return Resumed(handle_of(replayed, None))
    try:
        submission = submit(replayed)
    except KitaruError as error:
        what = f"The replay {replayed.exec_id} is recorded, but not submitted:"
        raise recorded(error, replayed, what) from error
    return Resumed(handle_of(replayed, submission), submission)
