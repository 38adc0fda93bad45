"""Answer what an execution waits for, and let it continue where it runs.

The answer is recorded first, so it stays recorded if a later part fails. Then an orchestrator that
keeps a run open is notified. If the run has ended, a pipeline of the remaining steps is started. If
the remaining steps make no durable call, they run here instead of in a container.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kitaru.errors import ClassChanged, InputError, KitaruError
from kitaru.handle import Handle
from kitaru.loading import is_loadable
from kitaru.ops.notify import Notice, notify_answer
from kitaru.ops.resume import continue_here
from kitaru.ops.submit import Submission, answered, handle_of, recorded
from kitaru.runtime.engine import waits
from kitaru.runtime.engine.local_run import running_here
from kitaru.runtime.journal import processes
from kitaru.runtime.journal.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kitaru.stores.base import Store


@dataclass(frozen=True, slots=True)
class Answered:
    """An answered execution: `wait` is the one that was answered.

    `notice` is what the orchestrator was told that keeps a run open for the answer, if one does;
    `submission` the run that continues a pipeline which has ended, if one was asked for.
    """

    handle: Handle[Any]
    wait: str
    notice: Notice | None = None
    submission: Submission | None = None


def answer(
    store: Store,
    exec_id: str,
    value: Any,
    wait: str | None = None,
    *,
    submits: bool = True,
    options: Mapping[str, str] | None = None,
) -> Answered:
    """Answer a wait with JSON, and continue the execution.

    A local execution continues in this process, unless its code is in no file (standard input, a
    notebook) or another process waits for the answer in `.wait()`: then that one continues it. A
    deployed one continues on its target.

    Args:
        wait: which wait; needed when several are pending.
        submits: whether a run is started for a pipeline that has ended.
        options: of the target's service, over those of the settings.

    Raises:
        AnswerInvalid: the value does not fit the wait's schema; it still waits.
        WaitConflict: it was answered before, with another value.
        NotFound: there is no such execution or wait.
        StateError: nothing was ever asked.
        InputError: the answer is recorded, and the flow has other inputs than it started with.
        ClassChanged: the answer is recorded, and the class of an input has changed.
        EnvironmentFailure: the answer is recorded, and the orchestrator cannot be told.
    """
    journal = Journal.open(store, exec_id)
    journal.inspect()
    request = waits.select_wait(journal, wait)
    waits.answer(journal, request, value)
    if journal.end() is not None or journal.execution.mode == "dry-run":
        return Answered(Handle(journal, None), request.name)
    if journal.execution.mode == "deployed":
        return _continue_there(journal, request.name, value, submits, options or {})
    if running_here(journal) is None:
        if not is_loadable(journal.execution):
            return Answered(Handle(journal, None), request.name)
        if processes.is_attended(store, exec_id):
            # A script is in .wait(): two processes would run the same checkpoints.
            elsewhere = Handle[Any](journal, None, otherwise=lambda: continue_here(journal))
            return Answered(elsewhere, request.name)
    try:
        return Answered(continue_here(journal), request.name)
    except (InputError, ClassChanged) as error:
        said = "The answer is recorded, and the execution did not continue."
        raise recorded(error, journal, said) from error


def _continue_there(
    journal: Journal, wait: str, value: Any, submits: bool, options: Mapping[str, str]
) -> Answered:
    from kitaru_targets import registry

    notice = notify_answer(journal, wait, value)
    if notice is not None:
        return Answered(Handle(journal, None), wait, notice)
    is_next = journal.state().status == "waiting" and not journal.pending_waits()
    # A person names the target of another distribution, by resuming; a record does not.
    if not submits or not is_next or not registry.is_own(journal.execution.target):
        return Answered(Handle(journal, None), wait)
    try:
        submission = answered(journal, options)
    except KitaruError as error:
        raise recorded(error, journal, "The answer is recorded, but not submitted:") from error
    return Answered(handle_of(journal, submission), wait, None, submission)
