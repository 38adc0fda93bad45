"""Resume an execution: where it ran before, or as a pipeline of its remaining steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitaru import hints
from kitaru.errors import StateError, UsageError
from kitaru.handle import Handle
from kitaru.loading import load_flow
from kitaru.local_flow import handle_of_ended, run_execution
from kitaru.ops.advance import Means, move, submit
from kitaru.ops.submit import Submission, handle_of, residual_images
from kitaru.runtime.engine.local_run import running_here
from kitaru.runtime.journal.audit import audited
from kitaru.runtime.journal.journal import Journal

if TYPE_CHECKING:
    from kitaru_targets.build import Build

    from kitaru.stores.base import Store


@dataclass(frozen=True, slots=True)
class Place:
    """The destination of a residual pipeline: its target, output folder and image."""

    target: str
    directory: Path
    image: str | None


@dataclass(frozen=True, slots=True)
class Resumed:
    """A resumed execution. `submission` is the run of its target, None for a local execution."""

    handle: Handle[Any]
    submission: Submission | None = None


def resume(
    store: Store,
    exec_id: str,
    *,
    again: bool = False,
    options: Mapping[str, str] | None = None,
) -> Resumed:
    """Resume an execution whose process or run has ended; recorded calls do not run again.

    A local execution runs in this process. A deployed execution is submitted to its target.

    Args:
        again: start another run even if one was started since the execution waits.
        options: options of the target's service, which override those of the settings.

    Raises:
        NotFound: the execution does not exist.
        StateError: the execution was cancelled, waits for an answer, runs in this process, or is a
            dry run.
        EnvironmentFailure: the SDK is missing, or the store or the service refused.
    """
    journal = Journal.open(store, exec_id)
    with audited(store, "resume", flow=journal.execution.flow, exec_id=exec_id):
        if journal.execution.mode == "deployed":
            return _resume_there(journal, again, options or {})
        return _resume_here(journal)


def _resume_here(journal: Journal) -> Resumed:
    run = running_here(journal)
    # The journal decides: the body may not have reached the point where it parks.
    if run is not None and run.phase == "running" and journal.state().status == "running":
        raise StateError(
            f"The execution {journal.exec_id} is running in this process.",
            help="Wait for it with .wait() of its handle.",
        )
    return Resumed(continue_here(journal))


def _resume_there(journal: Journal, again: bool, options: Mapping[str, str]) -> Resumed:
    end = journal.end()
    if end is not None:
        return Resumed(handle_of_ended(journal, end))
    if journal.expire_due():
        done = move(journal.store, journal.exec_id, Means(options))
        return Resumed(handle_of(journal, done.submission), done.submission)
    if journal.state().status == "sleeping" and (timers := journal.pending_requests()):
        raise StateError(
            f"The execution {journal.exec_id} sleeps until {timers[0].deadline}.",
            help=f"A dispatcher continues it then: "
            f"{hints.command(journal.store, 'dispatcher', 'run')}",
        )
    pending = journal.pending_waits()
    is_waiting = journal.state().status == "waiting"
    if is_waiting and not pending and (running := journal.pending_children()):
        raise StateError(
            f"The execution {journal.exec_id} waits for its child {running[0].child}.",
            help="See: " + hints.command(journal.store, "executions", "get", running[0].child),
        )
    if is_waiting and not pending and (awaited := journal.pending_events()):
        raise StateError(
            f"The execution {journal.exec_id} waits for an event {awaited[0].event['name']}.",
            help="Send it: " + hints.send_command(journal.store, awaited[0].event),
        )
    if pending and is_waiting:
        raise StateError(
            f"The execution {journal.exec_id} waits for an answer to {pending[0].name}.",
            help=hints.input_help(journal, pending[0].name),
        )
    submission = submit(journal, again=again, options=options)
    if not submission.is_new and not again:
        raise StateError(
            f"The execution {journal.exec_id} is submitted already, as {submission.run_id} on "
            f"{submission.title}, and has not started there.",
            help="If that run is gone: "
            + hints.command(journal.store, "executions", "resume", journal.exec_id, "--again"),
        )
    return Resumed(handle_of(journal, submission), submission)


def continue_here(journal: Journal, *, cache: bool | None = None) -> Handle[Any]:
    """Run an execution in this process until it ends; return an ended execution unchanged.

    `cache` sets whether results of other executions may be reused.

    Raises StateError if the execution was cancelled or does not run locally.
    """
    end = journal.end()
    if end is not None:
        return handle_of_ended(journal, end)
    run = running_here(journal)
    if run is not None:
        run.resume()
        return Handle(journal, run)
    if journal.execution.mode != "local":
        raise StateError(
            f"The execution {journal.exec_id} does not run here but on "
            f"{journal.execution.target or 'its target'}.",
            help="Compile the remaining steps: "
            + hints.command(
                journal.store, "executions", "resume", journal.exec_id, "--target", "T"
            ),
        )
    return run_execution(load_flow(journal.execution), journal, cache=cache)


def is_local(store: Store, exec_id: str) -> bool:
    """Return whether only the machine that has an execution's code can continue it."""
    return Journal.open(store, exec_id).execution.mode != "deployed"


def check_elsewhere(store: Store, exec_id: str, verb: str) -> None:
    """Raise StateError if a command `verb` on an execution would run its code in this process.

    For a service, whose process never runs the code of a flow.
    """
    if not is_local(store, exec_id):
        return
    raise StateError(
        f"The execution {exec_id} is not one of a deployed flow: only the machine that has its "
        f"code can {verb} it.",
        help="Run there: " + hints.command(store, "executions", verb, exec_id),
    )


def check_stored(journal: Journal) -> None:
    """Raise the errors of writing a residual pipeline before any change is made."""
    from kitaru_targets.residual_build import kept

    if journal.execution.mode == "local":
        raise UsageError(
            f"The execution {journal.exec_id} runs on this machine; it has no pipeline.",
            help="Omit --target.",
        )
    kept(journal)


def write_residual(journal: Journal, place: Place) -> Build:
    """Write the residual pipeline of an execution, for any target.

    Only the store is read: the code is the code that started the execution. Raises StateError if
    the store does not contain it, UsageError for an unknown target.
    """
    from kitaru_targets import registry
    from kitaru_targets.residual_build import stored

    target = registry.get(place.target)
    folder = place.directory / journal.execution.flow / f"{target.name}-{journal.exec_id}"
    image, base_image = residual_images(journal, place.image)
    return stored(journal, target, folder, image=image, base_image=base_image)
