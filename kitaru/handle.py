"""Decides what a caller can do with an execution: look, wait for its result, get it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kitaru.errors import (
    CheckpointFailed,
    Diverged,
    FlowError,
    KitaruError,
    StateError,
    WaitTimeout,
)
from kitaru.runtime import codec
from kitaru.runtime.recording import commands
from kitaru.runtime.running.local import LocalRun

if TYPE_CHECKING:
    from kitaru.runtime.recording.journal import Journal
    from kitaru.wire.records import Status

R = TypeVar("R")

_FIRST_LOOK = 0.05
_LAST_LOOK = 1.0


class Handle(Generic[R]):
    """An execution that was started, here or elsewhere.

    Example:
        handle = review_flow.run("kayaks")
        print(handle.exec_id, handle.status)
        text = handle.wait()

    `exec_id` and `flow` (its name) say which one it is.
    """

    def __init__(self, journal: Journal, run: LocalRun | None) -> None:
        """`run` is the execution's run in this process, `None` where it runs elsewhere."""
        self.exec_id = journal.exec_id
        self.flow = journal.execution.flow
        self._journal = journal
        self._run = run

    @property
    def status(self) -> Status:
        """`running`, `waiting`, `failed`, `completed` or `cancelled`, as the journal knows it."""
        return self._journal.state().status

    def wait(self, timeout: float | None = None) -> R:
        """Wait until the execution has ended and return the flow's result.

        While it waits for an answer this goes on looking for it, however long it takes. If the
        process dies meanwhile nothing is lost.

        Args:
            timeout: seconds; `None` for no limit.

        Raises:
            WaitTimeout: `timeout` elapsed; the execution goes on.
            CheckpointFailed: a checkpoint failed; `__cause__` is what it raised.
            FlowError: the flow's body raised; `__cause__` is what it raised.
            Diverged: the body did something else than was recorded.
            StateError: the execution was cancelled.
            EnvironmentFailure: the store failed; the execution can be resumed.
        """
        self._wait(timeout, until_waiting=False)
        return self.get()

    def settle(self, timeout: float | None = None) -> Status:
        """Wait until the execution has ended or is waiting for an answer; return which.

        Raises:
            WaitTimeout: `timeout` seconds elapsed; the execution goes on.
            EnvironmentFailure: the store failed; the execution can be resumed.
        """
        self._wait(timeout, until_waiting=True)
        status = self.status
        error = self._run.error if self._run is not None else None
        if status in ("running", "waiting") and isinstance(error, KitaruError):
            raise error
        return status

    def get(self) -> R:
        """Return the result of an execution that has ended; raises what `wait` raises.

        Raises:
            StateError: it has not ended, or was cancelled.
            PickleRefused: the result holds a pickle, and the execution did not run here.
        """
        end = self._journal.end()
        if end is not None and end.status == "completed" and end.result is not None:
            # Where the flow runs here, its code may run what it returned.
            document = self._journal.fetch(end.result)
            return codec.decode(document, unpickle=self._run is not None)  # type: ignore[no-any-return]
        if end is not None:
            raise StateError(f"The execution {self.exec_id} of {self.flow} was cancelled.")
        raise self._failure()

    def _failure(self) -> KitaruError:
        error = self._run.error if self._run is not None else None
        if isinstance(error, Diverged):
            return error
        state = self._journal.state()
        if state.status != "failed" or state.error is None:
            return error if isinstance(error, KitaruError) else self._unfinished(state.status)
        info = state.error
        cls = CheckpointFailed if info.invocation else FlowError
        where = f"in the checkpoint {info.invocation} " if info.invocation else ""
        failure = cls(
            f"The execution {self.exec_id} of {self.flow} failed {where}with "
            f"{info.type}: {info.message}",
            help=info.help,
        )
        failure.__cause__ = error
        return failure

    def _unfinished(self, status: Status) -> StateError:
        help = "Wait for it with .wait()."
        if status == "waiting":
            names = [wait.name for wait in self._journal.pending_waits()] or ["NAME"]
            help = f"Answer it: {commands.input_help(self._journal, names[0])}"
        return StateError(f"The execution {self.exec_id} is {status}; it has no result.", help=help)

    def _wait(self, timeout: float | None, *, until_waiting: bool) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while not self._stands(deadline, until_waiting):
                self._pause(deadline)
        except KeyboardInterrupt:
            if self._run is not None:
                self._run.abandon()
            raise

    _look = _FIRST_LOOK

    def _stands(self, deadline: float | None, until_waiting: bool) -> bool:
        """Say whether there is nothing to wait for; let a run whose wait was answered go on."""
        run = self._run
        if run is None:
            status = self.status
            return status not in ("running", "waiting") or (until_waiting and status == "waiting")
        if not run.settled(None if deadline is None else max(0.0, deadline - time.monotonic())):
            return False
        if run.phase == "done":
            return True
        if run.wake():
            self._look = _FIRST_LOOK
            return False
        return until_waiting or self._journal.end() is not None

    def _pause(self, deadline: float | None) -> None:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise WaitTimeout(
                f"The execution {self.exec_id} had not ended in time; it goes on.",
                help="Wait again with .wait(), or look at .status.",
            )
        if self._run is not None and self._run.phase == "running":
            return
        time.sleep(self._look if left is None else min(self._look, left))
        self._look = min(_LAST_LOOK, self._look * 1.5)

    def __repr__(self) -> str:
        return f"<Handle {self.exec_id} of {self.flow}>"


def result_of(journal: Journal) -> Any:
    """Return the result of a completed execution, `None` for any other."""
    end = journal.end()
    if end is None or end.result is None:
        return None
    return codec.decode(journal.fetch(end.result))
