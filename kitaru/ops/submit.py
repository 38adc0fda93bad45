"""Start runs on services and on this machine, and complete here what needs no container.

`kitaru.ops.advance` decides when a run is started. The functions here start it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitaru import hints
from kitaru.config import setting
from kitaru.errors import EnvironmentFailure, KitaruError, StateError, UsageError
from kitaru.handle import Handle
from kitaru.ops.notify import connection
from kitaru.runtime.engine.signals import Terminated
from kitaru.runtime.executions.deployments import Deployment, Deployments
from kitaru.runtime.journal import launches
from kitaru.runtime.journal.journal import Journal
from kitaru.wire.flow_events import recorded_cancels
from kitaru.wire.plan import LOCK
from kitaru.wire.records import LaunchRecord, SubmissionRecord

if TYPE_CHECKING:
    from kitaru_targets.base import Submitted
    from kitaru_targets.local.process import Process
    from kitaru_targets.lock import Lock

    from kitaru.runtime.journal.journal import Journal
    from kitaru.stores.base import Store
    from kitaru.wire.plan import Plan

# Block kinds of an execution that the answering command can complete itself.
_PLAIN = frozenset({"join", "return"})
_LOOK_SECONDS = 0.05
# The run of a round that this machine has completed.
HERE = "this machine"


@dataclass(frozen=True, slots=True)
class Submission:
    """A run requested from a target; `title` names the target.

    `is_new` is false for a run that another call has started.
    """

    target: str
    title: str
    run_id: str
    url: str
    is_new: bool = True
    notes: tuple[str, ...] = ()
    process: Process | None = None


def runs_here(journal: Journal) -> bool:
    """Return whether an execution runs on this machine: in its caller's or its own process."""
    execution = journal.execution
    return execution.mode == "local" or (execution.mode, execution.target) == ("deployed", "local")


class ProcessHandle(Handle[Any]):
    """An execution that runs in a local process started by this program."""

    def __init__(self, journal: Journal, process: Process) -> None:
        super().__init__(journal, None)
        self._process = process

    def _is_settled(self, deadline: float | None, until_waiting: bool) -> bool:
        if self._process.popen.poll() is None:
            return False
        # Exit code 0 means that the process stopped at a wait. The answering process runs the rest.
        if self.status == "running" and self._process.popen.returncode != 0:
            failure = self._process.failure()
            help = hints.resume_help(self._journal)
            raise type(failure)(failure.message, help=help)
        return super()._is_settled(deadline, until_waiting)

    def _wait(self, timeout: float | None, *, until_waiting: bool) -> None:
        try:
            super()._wait(timeout, until_waiting=until_waiting)
        except (KeyboardInterrupt, Terminated):
            self.stop()
            raise

    def stop(self) -> None:
        """End the process, which has no terminal for Ctrl-C; the execution is kept."""
        self._process.popen.terminate()


def handle_of(journal: Journal, submission: Submission | None) -> Handle[Any]:
    """Return the handle of the execution that a submission runs."""
    process = submission.process if submission is not None else None
    return Handle(journal, None) if process is None else ProcessHandle(journal, process)


def start_run(
    journal: Journal,
    record: SubmissionRecord,
    options: Mapping[str, str],
    *,
    completes: bool = False,
) -> Submitted:
    """Start the run of a round on the execution's target.

    The code and the image are those of the execution's start: only the store is read. The run is
    named after execution and round, so a repeated call starts no second run if the service supports
    names. With `completes`, the round runs on this machine if no durable call is left; then the
    result is called `HERE`.

    Raises:
        StateError: the store does not contain the code.
        UsageError: an option is unknown.
        EnvironmentFailure: the SDK is missing, or the store or the service refused.
    """
    from kitaru_targets import registry
    from kitaru_targets.base import Submitted

    if completes and complete_here(journal, record.round):
        return Submitted(HERE, "")
    target = registry.get(record.target)
    chosen = {**service_options(target.name), **options}
    if target.name != registry.LOCAL:
        token = token_of(journal.exec_id, record.round)
        return start_residual(journal, token=token, options=chosen, round=record.round)
    launch, python = _process_of(journal, chosen)
    store, exec_id = journal.store, journal.exec_id
    return start_process(
        store, launch.flow, launch.deployment, exec_id, {}, python, round=record.round
    )


def token_of(exec_id: str, round: int) -> str:
    """Return the name of the run of a round, which is the same for each attempt to start it."""
    return f"kitaru-{exec_id}" if round == 1 else f"kitaru-{exec_id}-{round}"


def submission_of(target: str, run: Submitted) -> Submission:
    """Return a run that this process has started."""
    from kitaru_targets import registry

    title = registry.get(target).title
    return Submission(target, title, run.run_id, run.url, notes=run.notes, process=run.process)


def known_submission(target: str, record: SubmissionRecord) -> Submission:
    """Return a run that another call has started."""
    from kitaru_targets import registry

    return Submission(target, registry.get(target).title, record.run, record.url, is_new=False)


def check_process(journal: Journal) -> None:
    """Raise the errors that would prevent `submit` from starting a process for target `local`.

    A new execution that runs the same version is recorded only after this check.

    Raises:
        StateError: the version that started the execution is not recorded.
        EnvironmentFailure: the store lacks the version's code, or this Python lacks a package.
    """
    from kitaru_targets.local import submit as local

    launch, python = _process_of(journal, service_options(journal.execution.target))
    document = _document(journal.store, launch.flow, launch.deployment)
    held, _ = local.prepared(document, journal.store, python)
    with held:
        pass


def check_service(journal: Journal) -> None:
    """Raise the errors that would prevent `submit` from submitting a replay to its service.

    Raises:
        StateError: the store does not contain the execution's code.
        UsageError: the service cannot reach the store, or its target belongs to another
            distribution.
    """
    from kitaru_targets import registry
    from kitaru_targets.residual_build import kept
    from kitaru_targets.upload import check_reach

    kept(journal)
    name = journal.execution.target
    if not registry.is_own(name):
        # The target of another distribution is used only if a user names it, not because of a
        # record.
        raise UsageError(
            f"The execution {journal.exec_id} runs on {name}, a target of another distribution.",
            help="Write the pipeline that replays it: "
            + hints.command(
                journal.store, "executions", "replay", journal.exec_id, "--target", name
            ),
        )
    check_reach(registry.get(name), journal.store)


def plan_of(store: Store, version: Deployment) -> Plan:
    """Return the plan of a version. Raises RecordCorrupt, and StateError if it is not a plan."""
    from kitaru_targets.plans import read_plan

    data = Deployments(store).read(version, "plan.json")
    return read_plan(data, f"{version.flow} {version.version}")


def cancels_of(store: Store, flow: str, number: int, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a start of a version with these inputs records about events that cancel it."""
    plan = plan_of(store, Deployments(store).get(f"{flow}@v{number}"))
    return recorded_cancels(plan.events, plan.parameters, inputs)


def service_options(target: str) -> dict[str, str]:
    """Return the options of a target's service that the settings contain."""
    from kitaru_targets import registry

    found = registry.get(target)
    # A stack's options belong to the stack's target.
    named = setting("target").value
    is_other = named not in (None, target) or (named is None and target == registry.LOCAL)
    return {**(connection(found) or {}), **({} if is_other else setting("submit").value)}


def run_has_ended(name: str, run: str) -> bool:
    """Return whether a run has certainly ended on the service of the target `name`.

    False if it runs, or if nobody can tell: the service is of another distribution, no setting
    contains its address, or it does not answer.
    """
    from kitaru_targets import registry

    target = registry.get(name) if name in registry.names() else None
    if target is None or target.has_ended is None:
        return False
    if connection(target) is None:
        return False
    return target.has_ended(run, service_options(name))


def start_process(
    store: Store,
    flow: str,
    number: int,
    exec_id: str,
    given: Mapping[str, Any],
    python: str,
    *,
    round: int,
) -> Submitted:
    """Start the process of a version for the target `local`, for a round of its execution."""
    from kitaru_targets.common import parameters
    from kitaru_targets.local import submit as local

    values = {**given, parameters.STORE: store.url, parameters.EXECUTION: exec_id}
    return local.start(_document(store, flow, number), values, python, round)


def resume_in_process(journal: Journal, has_begun: Callable[[], bool]) -> Submission:
    """Start a process of this machine that resumes an execution of `flow.run`.

    Return when it has begun to run the execution, or has ended.
    """
    from kitaru_targets.local import submit as local

    store, exec_id = journal.store, journal.exec_id
    words = [sys.executable, "-m", "kitaru", "executions", "resume", exec_id, "--store", store.url]
    process = local.spawn(words, local.inherited())
    while process.popen.poll() is None and not has_begun():
        time.sleep(_LOOK_SECONDS)
    return Submission("local", HERE, f"process {process.popen.pid}", "", process=process)


def _document(store: Store, flow: str, number: int) -> dict[str, Any]:
    from kitaru_targets import registry
    from kitaru_targets.local.validate import parsed

    deployments = Deployments(store)
    version = deployments.get(f"{flow}@v{number}")
    data = deployments.read(version, registry.get(version.target).document)
    return parsed(data, f"Version {number} of {flow} in {store.url}")


def start_residual(
    journal: Journal, *, token: str, options: Mapping[str, str], round: int
) -> Submitted:
    """Start a run of the residual pipeline of an execution for a round, on its original service.

    Only the store is read: the code is that of the execution's start, and the images are those of
    `residual_images`. `token` names the run: if the service supports names, the same token
    addresses the same run.

    Raises:
        StateError: the store does not contain the code of the execution.
        UsageError, EnvironmentFailure: the errors of `kitaru_targets.upload.submit`.
    """
    from kitaru_targets import deploy, registry
    from kitaru_targets.residual_build import stored
    from kitaru_targets.upload import submit as hand_over

    target = registry.get(journal.execution.target)
    with tempfile.TemporaryDirectory(prefix="kitaru-rest-") as folder:
        image, base_image = residual_images(journal)
        place = Path(folder) / "rest"
        rest = stored(journal, target, place, image=image, base_image=base_image, round=round)
        return hand_over(
            rest,
            inputs={},
            store_url=journal.store.url,
            exec_id=journal.exec_id,
            options={
                **deploy.names(target, journal.execution.flow, journal.exec_id),
                **deploy.run_token(target, token),
                **options,
            },
        )


def residual_images(journal: Journal, image: str | None = None) -> tuple[str | None, str]:
    """Return the image and the base image of an execution's residual pipeline.

    They are `image`, otherwise those of the version that started the execution. Without a version,
    the image is the decorator's, and then the settings decide, as for a compilation.

    Raises StateError if the store does not contain the code of the execution.
    """
    from kitaru_targets.residual_build import kept, plan_of

    locked = _lock(journal)
    named = locked.image if locked else plan_of(kept(journal)).image
    base_image = (locked.base_image if locked else "") or setting("base_image").value or ""
    return setting("image", argument=image, decorator=named or None).value, base_image


def _lock(journal: Journal) -> Lock | None:
    """Return the lock of the version that started the execution, None without one."""
    from kitaru_targets import lock

    version = launches.version(journal.store, journal.exec_id)
    if not version:
        return None
    deployments = Deployments(journal.store)
    deployed = deployments.get(f"{journal.execution.flow}@{version}")
    return lock.parse(deployments.read(deployed, LOCK), f"{deployed.flow} {deployed.version}")


def _process_of(journal: Journal, options: Mapping[str, str]) -> tuple[LaunchRecord, str]:
    """Return the origin of an execution for the target `local`, and its interpreter."""
    from kitaru_targets.common.options import check_run

    check_run("local", options, ["python"])
    launch = launches.recall(journal.store, journal.exec_id)
    if launch is None:
        raise StateError(
            f"The store has no record of the version that the execution {journal.exec_id} runs.",
            help=hints.get_help(journal),
        )
    return launch, options.get("python", "")


def recorded(error: KitaruError, journal: Journal, what: str) -> KitaruError:
    """Return a submission error that includes the recorded state, and the command to submit it."""
    command = hints.command(journal.store, "executions", "resume", journal.exec_id)
    help = f"{error.help}\nThen: {command}" if error.help else f"Then: {command}"
    kind = EnvironmentFailure if isinstance(error, EnvironmentFailure) else type(error)
    return kind(f"{what} {error.message}", help=help)


def complete_here(journal: Journal, round: int) -> bool:
    """Run the code after an answered wait on this machine; return whether its process ran.

    Used only if no durable call can follow: a container would be started just for the rest of the
    body. If this machine lacks an imported package, the process only takes the round, and the
    service runs the rest in the next round.
    """
    from kitaru_targets import bundle, registry, residual_build
    from kitaru_targets.local import submit as local

    if journal.execution.target == registry.LOCAL:
        return False
    try:
        plan = residual_build.left(residual_build.kept(journal), journal).plan
    except StateError:
        return False
    if not _is_plain(plan):
        return False
    from kitaru_targets.common.parameters import EXECUTION, STORE
    from kitaru_targets.local.validate import parsed

    with tempfile.TemporaryDirectory(prefix="kitaru-rest-") as made:
        target = registry.get(registry.LOCAL)
        build = residual_build.stored(journal, target, Path(made) / "rest", round=round)
        folder = Path(made) / "bundle"
        bundle.unpack(bundle.contents(build.read("bundle.zip")), folder)
        document = parsed(build.read(build.target.document), str(build.document))
        given = {STORE: journal.store.url, EXECUTION: journal.exec_id}
        local.run(document, folder, given).popen.wait()
    return True


def _is_plain(plan: Plan) -> bool:
    """Return whether the blocks of a residual plan make no durable call after the wait."""
    (first, *others) = plan.steps
    if others:
        return False
    start, *rest = (plan.block(name) for name in first.blocks)
    asks = start.kind == "wait" and start.calls in (("wait",), ("sleep",), ("wait_event",))
    return asks and all(block.kind in _PLAIN and not block.calls for block in rest)
