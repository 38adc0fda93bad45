"""Start the run that continues a deployed execution on its service, once.

Two people may answer at the same time, or one answers while another resumes. Both would start a
run. Each execution has a number that grows with every change of its status, here called the round.
To start a run in a round, a process first creates a claim in the store. A process that finds
another's claim waits for the note of that run for a while, and reports the run as its own. A claim
without a run, whose process was killed, delays the next process only for that time. Runs are also
named after execution, round and attempt, so that a service that supports names starts only one of
them.

A service may start a run although its response is lost. The same submission, repeated, has the same
name. If the run has started meanwhile, which begins another round, the note `unanswered` of the
earlier round prevents a second run.

A waiting execution has one run per round; a second run needs `again`. A running or failed execution
is resumed because its run has ended: each call that finds the earlier runs noted starts another
run.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitaru import hints
from kitaru.config import setting
from kitaru.errors import EnvironmentFailure, KitaruError, StateError, UsageError
from kitaru.handle import Handle
from kitaru.ops.notify import connection
from kitaru.runtime.engine.signals import Terminated
from kitaru.runtime.executions.deployments import LOCK, Deployments
from kitaru.runtime.journal import launches
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.wire import keys
from kitaru.wire.records import LaunchRecord, SubmissionRecord
from kitaru.wire.structs import replace
from kitaru.wire.times import now

if TYPE_CHECKING:
    from kitaru_targets.base import Submitted, Target
    from kitaru_targets.local.process import Process

    from kitaru.runtime.journal.journal import Journal
    from kitaru.stores.base import Store
    from kitaru.wire.plan import Plan

_CLAIM_SECONDS = 10.0
_LOOK_SECONDS = 0.1
# Block kinds of an execution that the answering command can complete itself.
_PLAIN = frozenset({"join", "return"})
_HERE = "this machine"


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


def answered(journal: Journal, options: Mapping[str, str]) -> Submission | None:
    """Start the continuation of an execution after an answer, as `submit` does.

    Return None if no durable call remained and the execution completed or failed on this machine.
    """
    found = _submit(journal, again=False, options=options, completes=True)
    return None if found.run_id == _HERE else found


def submit(
    journal: Journal, *, again: bool = False, options: Mapping[str, str] | None = None
) -> Submission:
    """Start a run of an execution's remaining steps on its original target.

    The code and the image are those of the execution's start: only the store is read.

    Args:
        again: start another run even if one was started since the execution waits.
        options: options of the target's service, which override those of the settings.

    Raises:
        StateError: the store does not contain the code, or a run was already started.
        UsageError: an option is unknown.
        EnvironmentFailure: the SDK is missing, or the store or the service refused.
    """
    return _submit(journal, again=again, options=options or {}, completes=False)


def _submit(
    journal: Journal, *, again: bool, options: Mapping[str, str], completes: bool
) -> Submission:
    from kitaru_targets import registry
    from kitaru_targets.base import Submitted

    target, state = registry.get(journal.execution.target), journal.state()
    record_store = RecordStore(journal.store)
    earlier = launches.submissions(journal.store, journal.exec_id, state.number)
    if earlier and state.status == "waiting" and not again:
        return _known(target, earlier[-1])
    if state.status == "running" and not again:
        _check_unanswered(journal, record_store, state.number - 1, target)
    record = SubmissionRecord(state.number, len(earlier) + 1, target.name, now())
    claim = _key(journal, record, "claim")
    if not record_store.try_create(claim, record):
        held = _noted(record_store, _key(journal, record, "run"))
        if held is not None:
            return _known(target, held)
    try:
        is_over = completes and complete_here(journal)
        run = Submitted(_HERE, "") if is_over else _start(journal, target, record, options)
    except KitaruError as error:
        if isinstance(error, EnvironmentFailure):
            record_store.try_create(_key(journal, record, "unanswered"), record)
        # Without permission to delete, the claim remains. The next submission waits until it
        # expires.
        with suppress(KitaruError):
            journal.store.delete(claim)
        raise
    noted = replace(record, run=run.run_id, url=run.url)
    record_store.write(_key(journal, record, "run"), noted)
    return Submission(
        target.name, target.title, run.run_id, run.url, notes=run.notes, process=run.process
    )


def _check_unanswered(
    journal: Journal, record_store: RecordStore, round: int, target: Target
) -> None:
    """Raise StateError if the execution runs through a submission that was never confirmed."""
    attempt = len(launches.submissions(journal.store, journal.exec_id, round)) + 1
    key = keys.submission(journal.exec_id, round, attempt, "unanswered")
    if record_store.read(SubmissionRecord, key) is None:
        return
    again = hints.command(journal.store, "executions", "resume", journal.exec_id, "--again")
    raise StateError(
        f"The execution {journal.exec_id} runs on {target.title}, which did not confirm it.",
        help=f"Look at its run there. If that is gone: {again}",
    )


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


def service_options(target: str) -> dict[str, str]:
    """Return the options of a target's service that the settings contain."""
    from kitaru_targets import registry

    found = registry.get(target)
    # A stack's options belong to the stack's target.
    named = setting("target").value
    is_other = named not in (None, target) or (named is None and target == registry.LOCAL)
    return {**(connection(found) or {}), **({} if is_other else setting("submit").value)}


def start_process(
    store: Store, flow: str, number: int, exec_id: str, given: Mapping[str, Any], python: str
) -> Submitted:
    """Start the process of a version for the target `local`."""
    from kitaru_targets.common import parameters
    from kitaru_targets.local import submit as local

    values = {**given, parameters.STORE: store.url, parameters.EXECUTION: exec_id}
    return local.start(_document(store, flow, number), values, python)


def _document(store: Store, flow: str, number: int) -> dict[str, Any]:
    from kitaru_targets import registry
    from kitaru_targets.local.validate import parsed

    deployments = Deployments(store)
    version = deployments.get(f"{flow}@v{number}")
    data = deployments.read(version, registry.get(version.target).document)
    return parsed(data, f"Version {number} of {flow} in {store.url}")


def _start(
    journal: Journal, target: Target, record: SubmissionRecord, options: Mapping[str, str]
) -> Submitted:
    from kitaru_targets import registry

    chosen = {**service_options(target.name), **options}
    if target.name != registry.LOCAL:
        token = f"kitaru-{journal.exec_id}-{record.round}-{record.attempt}"
        return start_residual(journal, image=setting("image").value, token=token, options=chosen)
    launch, python = _process_of(journal, chosen)
    return start_process(journal.store, launch.flow, launch.deployment, journal.exec_id, {}, python)


def start_residual(
    journal: Journal, *, image: str | None = None, token: str, options: Mapping[str, str]
) -> Submitted:
    """Start a run of the residual pipeline of an execution, on its original service.

    Only the store is read: code and image are those of the execution's start. `image` is used if no
    version started the execution. `token` names the run: if the service supports names, the same
    token addresses the same run.

    Raises:
        StateError: the store does not contain the code of the execution.
        UsageError, EnvironmentFailure: the errors of `kitaru_targets.upload.submit`.
    """
    from kitaru_targets import deploy, registry
    from kitaru_targets.residual_build import stored
    from kitaru_targets.upload import submit as hand_over

    target = registry.get(journal.execution.target)
    with tempfile.TemporaryDirectory(prefix="kitaru-rest-") as folder:
        rest = stored(journal, target, Path(folder) / "rest", image=_image(journal) or image)
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


def _image(journal: Journal) -> str:
    """Return the image of the version that started the execution, if any."""
    from kitaru_targets import lock

    version = launches.version(journal.store, journal.exec_id)
    if not version:
        return ""
    deployments = Deployments(journal.store)
    deployed = deployments.get(f"{journal.execution.flow}@{version}")
    return lock.parse(deployments.read(deployed, LOCK), f"{deployed.flow} {deployed.version}").image


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


def _noted(record_store: RecordStore, key: str) -> SubmissionRecord | None:
    """Return the run started by a concurrent call; None if that call starts none."""
    for _ in range(round(_CLAIM_SECONDS / _LOOK_SECONDS)):
        held = record_store.read(SubmissionRecord, key)
        if held is not None:
            return held
        time.sleep(_LOOK_SECONDS)
    return None


def _known(target: Target, record: SubmissionRecord) -> Submission:
    return Submission(target.name, target.title, record.run, record.url, is_new=False)


def _key(journal: Journal, record: SubmissionRecord, what: str) -> str:
    return keys.submission(journal.exec_id, record.round, record.attempt, what)


def recorded(error: KitaruError, journal: Journal, what: str) -> KitaruError:
    """Return a submission error that includes the recorded state, and the command to submit it."""
    command = hints.command(journal.store, "executions", "resume", journal.exec_id)
    help = f"{error.help}\nThen: {command}" if error.help else f"Then: {command}"
    kind = EnvironmentFailure if isinstance(error, EnvironmentFailure) else type(error)
    return kind(f"{what} {error.message}", help=help)


def complete_here(journal: Journal) -> bool:
    """Run the code after an answered wait on this machine; return whether the execution ended.

    Used only if no durable call can follow: a container would be started just for the rest of the
    body. If this machine lacks an imported package, or the store lacks the code, nothing is
    recorded and the service runs it.
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
        build = residual_build.stored(journal, target, Path(made) / "rest")
        folder = Path(made) / "bundle"
        bundle.unpack(bundle.contents(build.read("bundle.zip")), folder)
        document = parsed(build.read(build.target.document), str(build.document))
        given = {STORE: journal.store.url, EXECUTION: journal.exec_id}
        local.run(document, folder, given).popen.wait()
    return journal.end() is not None or journal.state().status == "failed"


def _is_plain(plan: Plan) -> bool:
    """Return whether the blocks of a residual plan make no durable call after the wait."""
    (first, *others) = plan.steps
    if others:
        return False
    start, *rest = (plan.block(name) for name in first.blocks)
    asks = start.kind == "wait" and start.calls == ("wait",)
    return asks and all(block.kind in _PLAIN and not block.calls for block in rest)
