"""Record the version or the build from which an execution was started.

The record is written before the first step starts. Later commands read it, so an execution keeps
its version when a tag moves.
"""

from __future__ import annotations

from kitaru.errors import EnvironmentFailure, StateError
from kitaru.runtime.journal import subscriptions
from kitaru.runtime.journal.blobs import create_or_read
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.stores.base import Store
from kitaru.wire import keys
from kitaru.wire.ids import check_execution_id
from kitaru.wire.records import DeploymentRecord, LaunchRecord, SubmissionRecord
from kitaru.wire.structs import replace
from kitaru.wire.times import now

PLAN = "plan.json"


def record_launch(store: Store, exec_id: str, launch: LaunchRecord) -> LaunchRecord:
    """Record once what an execution is started from; return the stored record.

    Raises StateError if the execution existed and was removed.
    """
    if store.get(keys.garbage(check_execution_id(exec_id))) is not None:
        raise StateError(
            f"The execution {exec_id} has existed and was removed.",
            help="Omit its id to start another one.",
        )
    if not launch.is_dry_run:
        # Before the launch: if this process dies after it, a dispatcher finds the hint.
        create_or_read(store, keys.due_launch(exec_id), now().encode("ascii"))
        launch = _subscribed(store, exec_id, launch)
    return RecordStore(store).write(keys.launch(check_execution_id(exec_id)), launch)


def _subscribed(store: Store, exec_id: str, launch: LaunchRecord) -> LaunchRecord:
    """Return a launch with the place in the log from which events cancel the execution.

    The subscriptions precede the launch. An event that comes meanwhile is found when a dispatcher
    compares all subscriptions with the log.
    """
    if not launch.cancel_on:
        return launch
    subscriptions.subscribe_cancels(store, exec_id, launch)
    number = subscriptions.next_number(RecordStore(store))
    return replace(launch, cancel_on={**launch.cancel_on, "from": number})


def recall(store: Store, exec_id: str) -> LaunchRecord | None:
    """Return what an execution was started from, None if it is not recorded."""
    return RecordStore(store).read(LaunchRecord, keys.launch(check_execution_id(exec_id)))


def check_plan(store: Store, exec_id: str, plan_digest: str) -> LaunchRecord | None:
    """Return what an execution was started from, None if it is not recorded.

    Raises EnvironmentFailure if that is a version with another plan. A service that stores
    documents by name may have received a later document meanwhile.
    """
    launch = recall(store, exec_id)
    if launch is None or not launch.deployment:
        return launch
    key = keys.deployment(launch.flow, launch.deployment)
    deployed = RecordStore(store).read(DeploymentRecord, key)
    if deployed is not None and deployed.files[PLAN] != plan_digest:
        raise EnvironmentFailure(
            f"The execution {exec_id} runs {launch.flow} v{launch.deployment}, and this step was "
            "compiled from a different version. Nothing ran.",
            next_step="see flow",
            store_url=store.url,
            exec_id=exec_id,
            flow=launch.flow,
        )
    return launch


def version(store: Store, exec_id: str) -> str:
    """Return the version that an execution runs, such as `v3`; empty without a deployment."""
    launch = recall(store, exec_id)
    return f"v{launch.deployment}" if launch and launch.deployment else ""


def submissions(store: Store, exec_id: str, round: int) -> list[SubmissionRecord]:
    """Return the pipeline runs since the execution's state of that number, in order."""
    record_store, found = RecordStore(store), list[SubmissionRecord]()
    while True:
        key = keys.submission(exec_id, round, len(found) + 1, "run")
        held = record_store.read(SubmissionRecord, key)
        if held is None:
            return found
        found.append(held)
