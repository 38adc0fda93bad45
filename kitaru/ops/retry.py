"""Retry a failed execution under its own id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitaru import hints
from kitaru.errors import StateError
from kitaru.ops.advance import submit
from kitaru.ops.resume import Resumed, continue_here
from kitaru.ops.submit import handle_of
from kitaru.runtime.engine.local_run import running_here
from kitaru.runtime.journal.audit import audited
from kitaru.runtime.journal.journal import Journal

if TYPE_CHECKING:
    from kitaru.stores.base import Store


def retry(store: Store, exec_id: str) -> Resumed:
    """Run a failed execution again. Failed checkpoints run again; recorded ones do not.

    A deployed execution is submitted to its target. An execution whose process recorded why it
    stopped is resumed.

    Raises:
        NotFound: the execution does not exist.
        StateError: the execution has not failed.
        EnvironmentFailure: the SDK is missing, or the store or the service refused.
    """
    journal = Journal.open(store, exec_id)
    state = journal.state()
    status = state.status
    if status != "failed" and not (status == "running" and state.error is not None):
        raise StateError(
            f"The execution {exec_id} has not failed, it is {status}.",
            help=_instead(journal, status),
        )
    with audited(store, "retry", flow=journal.execution.flow, exec_id=exec_id):
        if journal.execution.mode == "deployed":
            submission = submit(journal)
            return Resumed(handle_of(journal, submission), submission)
        run = running_here(journal)
        if run is not None:
            # The failure is recorded, but its thread must end before another thread can run the
            # execution.
            run.wait_until_idle()
        return Resumed(continue_here(journal, cache=False))


def _instead(journal: Journal, status: str) -> str:
    """Return the available commands for an execution that has not failed."""
    if status == "sleeping":
        return hints.get_help(journal)
    if status == "waiting":
        waits = journal.pending_names() or ["NAME"]
        return f"Answer it: {hints.input_help(journal, waits[0])}"
    if status == "running":
        return f"If its process is gone: {hints.resume_command(journal)}"
    if status == "cancelled":
        return hints.new_help(journal)
    return f"Start a new execution instead. {hints.get_help(journal)}"
