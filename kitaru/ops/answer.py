"""Answer a pending wait of an execution, and continue the execution where it runs.

The answer is recorded first, so it stays recorded if a later part fails. If an orchestrator keeps a
run open, it is notified. If the run has ended, a pipeline of the remaining steps is started.
Remaining steps without a durable call run here instead of in a container.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kitaru.errors import ClassChanged, InputError, KitaruError
from kitaru.handle import Handle
from kitaru.loading import is_loadable
from kitaru.ops.advance import Means, move
from kitaru.ops.resume import continue_here
from kitaru.ops.submit import Submission, handle_of, recorded
from kitaru.runtime.engine import waits
from kitaru.runtime.engine.local_run import running_here
from kitaru.runtime.journal import processes
from kitaru.runtime.journal.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kitaru.ops.notify import Notice
    from kitaru.stores.base import Store


@dataclass(frozen=True, slots=True)
class Answered:
    """An execution after an answer; `wait` is the answered wait.

    `notice` is the notification of the orchestrator that keeps a run open, if any. `submission` is
    the run that continues an ended pipeline, if one was requested.
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
    runs_here: bool = True,
    number: int | None = None,
) -> Answered:
    """Answer a wait with JSON, and continue the execution.

    A local execution continues in this process, with two exceptions. If its code is not in a file
    (standard input, a notebook), it is not continued. If another process waits for the answer in
    `.wait()`, that process continues it. A deployed execution continues on its target.

    Args:
        wait: the wait to answer; required if several are pending.
        submits: whether to start a run for a pipeline that has ended.
        options: options of the target's service, which override those of the settings.
        runs_here: whether a local execution may continue in this process.
        number: record only the answer of that number, which is one more than those that the flow
            has rejected. Default: the first that it has not rejected.

    Raises:
        AnswerInvalid: the value does not fit the wait's schema; the wait stays pending.
        WaitConflict: the wait already has a different answer, or one of that number was rejected.
        NotFound: the execution or the wait does not exist.
        StateError: the execution has never asked a question.
        InputError: the answer is recorded, but the flow has other inputs than at its start.
        ClassChanged: the answer is recorded, but the class of an input has changed.
        EnvironmentFailure: the answer is recorded, but the orchestrator cannot be notified.
    """
    journal = Journal.open(store, exec_id)
    journal.inspect()
    request = waits.select_wait(journal, wait)
    waits.answer(journal, request, value, number=number)
    if journal.end() is not None or journal.execution.mode == "dry-run":
        return Answered(Handle(journal, None), request.name)
    if journal.execution.mode == "deployed":
        return _continue_there(journal, request.name, submits, options or {})
    if running_here(journal) is None:
        if not runs_here or not is_loadable(journal.execution):
            return Answered(Handle(journal, None), request.name)
        if processes.is_attended(store, exec_id):
            # The process in .wait() continues the execution. If both did, checkpoints would run
            # twice.
            elsewhere = Handle[Any](journal, None, otherwise=lambda: continue_here(journal))
            return Answered(elsewhere, request.name)
    try:
        return Answered(continue_here(journal), request.name)
    except (InputError, ClassChanged) as error:
        said = "The answer is recorded, and the execution did not continue."
        raise recorded(error, journal, said) from error


def _continue_there(
    journal: Journal, wait: str, submits: bool, options: Mapping[str, str]
) -> Answered:
    if not submits:
        return Answered(Handle(journal, None), wait)
    try:
        done = move(journal.store, journal.exec_id, Means(options))
    except KitaruError as error:
        raise recorded(error, journal, "The answer is recorded, but not submitted:") from error
    return Answered(handle_of(journal, done.submission), wait, done.notice, done.submission)
