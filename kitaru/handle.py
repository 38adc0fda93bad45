"""Handles of executions: read the status, wait for the result, cancel."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kitaru import hints
from kitaru.errors import (
    AnswerInvalid,
    CheckpointFailed,
    ClassChanged,
    Diverged,
    FlowError,
    KitaruError,
    StateError,
    WaitConflict,
    WaitTimeout,
)
from kitaru.runtime import codec
from kitaru.runtime.engine import exit_report, questions
from kitaru.runtime.engine.local_run import LocalRun
from kitaru.runtime.engine.questions import AnsweredElsewhere
from kitaru.runtime.engine.signals import Terminated
from kitaru.runtime.engine.waits import answer
from kitaru.runtime.journal import processes
from kitaru.runtime.journal.exceptions import without_own_frames
from kitaru.runtime.journal.states import PAUSED
from kitaru.status import ExecutionStatus
from kitaru.wire.printable import line

if TYPE_CHECKING:
    from kitaru.runtime.journal.journal import Journal
    from kitaru.wire.records import Status, WaitRequest

R = TypeVar("R")

_OPEN = ("running", *PAUSED)
_FIRST_LOOK = 0.05
_LAST_LOOK = 1.0
# Only one prompt at a time.
_terminal = threading.Lock()


class Handle(Generic[R]):
    """A handle of an execution, which may run here or elsewhere.

    Example:
        handle = review_flow.run("kayaks")
        print(handle.exec_id, handle.status)
        text = handle.wait()

    Attributes:
        exec_id: the execution id.
        flow: the name of the flow.
    """

    def __init__(
        self,
        journal: Journal,
        run: LocalRun | None,
        *,
        otherwise: Callable[[], Handle[R]] | None = None,
    ) -> None:
        """`run` is the execution's run in this process, `None` if it runs elsewhere.

        `otherwise` resumes the execution here if the process that should run it is gone.
        """
        self.exec_id = journal.exec_id
        self.flow = journal.execution.flow
        self._journal = journal
        self._run = run
        self._otherwise = otherwise
        self._told = run.told if run is not None else set()
        self._is_asking = True

    @property
    def status(self) -> ExecutionStatus:
        """The status in the journal: `running`, `waiting`, `sleeping`, `failed` or an end."""
        return ExecutionStatus(self._journal.state().status)

    def wait(self, timeout: float | None = None) -> R:
        """Wait until the execution has ended, and return the flow's result.

        While the execution waits for an answer, this method prompts for it on a terminal, as
        `kitaru run` does. Without a terminal, or with a `timeout`, it prints the question once to
        stderr, with the command that answers it. The answer may come from any process. If this
        process dies meanwhile, another one can resume the execution.

        Args:
            timeout: seconds. Default: no limit.

        Raises:
            WaitTimeout: `timeout` elapsed. The execution continues.
            CheckpointFailed: a checkpoint failed. `__cause__` is its exception.
            FlowError: the flow's body raised. `__cause__` is its exception.
            Diverged: non-deterministic replay: the body made another call than was recorded.
            StateError: the execution was cancelled.
            EnvironmentFailure: the store failed. The execution can be resumed.
        """
        self._wait(timeout, until_waiting=False)
        return self.get()

    def __await__(self) -> Generator[Any, Any, R]:
        """Wait for the result without blocking the event loop; raises what `wait` raises.

        A question of the execution is printed, and never prompted for.
        """
        return self._awaited().__await__()

    async def _awaited(self) -> R:
        # The caller awaits, so asyncio is imported.
        import asyncio

        loop, run = asyncio.get_running_loop(), self._run
        continues = run is not None
        attending = processes.attending(self._journal.store, self._journal.exec_id)
        with attending if continues else nullcontext():
            while not self._is_settled(0.0, until_waiting=False):
                self._show_questions(is_asking=False)
                changed = asyncio.Event()
                if self._run is not None and self._run.phase == "running":
                    wake = partial(loop.call_soon_threadsafe, changed.set)
                    with self._run.notifying(wake):
                        await changed.wait()
                else:
                    await asyncio.sleep(self._look)
                    self._look = min(_LAST_LOOK, self._look * 1.5)
        return await asyncio.to_thread(self.get)

    def settle(self, timeout: float | None = None) -> ExecutionStatus:
        """Wait until the execution has ended or waits for an answer, and return its status.

        Raises:
            WaitTimeout: `timeout` seconds elapsed. The execution continues.
            EnvironmentFailure: the store failed. The execution can be resumed.
        """
        self._wait(timeout, until_waiting=True)
        status = self.status
        if self._run is not None and status not in PAUSED:
            self._run.is_delivered = True
        error = self._run.error if self._run is not None else None
        if status in _OPEN and isinstance(error, KitaruError):
            raise error
        if status == "running" and isinstance(error, Exception):
            raise self._unrecorded(error)
        return status

    def get(self) -> R:
        """Return the result of an execution that has ended; raises what `wait` raises.

        Raises:
            StateError: it has not ended, or was cancelled.
            PickleRefused: the result holds a pickle, and the execution did not run here.
        """
        self._mark_delivered()
        end = self._journal.end()
        if end is not None and end.status == "completed" and end.result is not None:
            # A flow that runs in this process may return a pickle: its code runs here anyway.
            document = self._journal.fetch(end.result)
            return codec.decode(document, unpickle=self._run is not None)  # type: ignore[no-any-return]
        if end is not None:
            raise StateError(f"The execution {self.exec_id} of {self.flow} was cancelled.")
        raise self._failure()

    def _failure(self) -> KitaruError:
        error = self._run.error if self._run is not None else None
        if error is not None:
            without_own_frames(error)
        if isinstance(error, Diverged | ClassChanged):
            return error
        state = self._journal.state()
        if state.status != "failed" or state.error is None:
            if isinstance(error, KitaruError):
                return error
            return self._unrecorded(error) if error else self._unfinished(state.status)
        info = state.error
        is_checkpoint = info.invocation and info.type != "kitaru.errors.ChildFailed"
        cls = CheckpointFailed if is_checkpoint else FlowError
        where = f"in the checkpoint {info.invocation} " if is_checkpoint else ""
        failure = cls(
            f"The execution {self.exec_id} of {self.flow} failed {where}with "
            f"{info.type}: {info.message}",
            help=info.help,
        )
        failure.__cause__ = error
        return failure

    def _unrecorded(self, error: BaseException) -> FlowError:
        """Return the failure of a body that could not be recorded, for example without memory."""
        failure = FlowError(
            f"The execution {self.exec_id} of {self.flow} ended with "
            f"{type(error).__name__}: {error}. This is not recorded.",
            help=hints.resume_help(self._journal),
        )
        failure.__cause__ = error
        return failure

    def _unfinished(self, status: Status) -> StateError:
        help = "Wait for it with .wait()."
        if status == "waiting":
            names = self._journal.pending_names() or ["NAME"]
            help = f"Answer it: {hints.input_help(self._journal, names[0])}"
        return StateError(f"The execution {self.exec_id} is {status}; it has no result.", help=help)

    def _wait(self, timeout: float | None, *, until_waiting: bool) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        # Only a caller that waits for the result resumes the execution after an answer.
        continues = self._run is not None and not until_waiting
        journal = self._journal
        attending = processes.attending(journal.store, journal.exec_id)
        try:
            with attending if continues else nullcontext():
                while not self._is_settled(deadline, until_waiting):
                    if not until_waiting:
                        self._show_questions(is_asking=timeout is None)
                    self._pause(deadline)
        except (KeyboardInterrupt, Terminated):
            if self._run is not None:
                self._run.detach()
            raise
        except Exception:
            self._mark_delivered()
            raise

    def _mark_delivered(self) -> None:
        """Note that the caller receives the outcome, or the error of reading it."""
        if self._run is not None and self._run.phase == "done":
            self._run.is_delivered = True

    _look = _FIRST_LOOK

    def _is_settled(self, deadline: float | None, until_waiting: bool) -> bool:
        """Return whether there is nothing to wait for. Resume a run whose wait was answered."""
        run = self._run
        if run is None:
            status = self.status
            if self._otherwise and self._must_go_on(status):
                if self._is_abandoned(status):
                    self._run, self._otherwise = self._otherwise()._run, None
                return False
            return status not in _OPEN or (until_waiting and status in PAUSED)
        if not run.wait_until_idle(
            None if deadline is None else max(0.0, deadline - time.monotonic())
        ):
            return False
        if run.phase == "done":
            return True
        if run.resume():
            self._look = _FIRST_LOOK
            return False
        return until_waiting or self._journal.end() is not None

    def _must_go_on(self, status: ExecutionStatus) -> bool:
        """Return whether some process should be running the execution now."""
        return status == "running" or (status == "waiting" and not self._journal.pending_names())

    def _is_abandoned(self, status: ExecutionStatus) -> bool:
        """Return whether that process is gone, so that this one runs the execution."""
        store = self._journal.store
        if status == "waiting":
            return not processes.is_attended(store, self.exec_id)
        return processes.take_over(store, self.exec_id)

    def _show_questions(self, *, is_asking: bool) -> None:
        """Prompt for the answers of pending waits, or print the waits, once."""
        if self._run is not None and self._run.phase != "parked":
            return
        for request in self._journal.pending_waits():
            if is_asking and self._is_asking and questions.is_terminal():
                self._is_asking = self._ask(request)
            if not self._is_answered(request):
                exit_report.write_question(self._journal, request, self._told)

    def _ask(self, request: WaitRequest) -> bool:
        """Prompt for an answer; return False if the person declines to answer."""
        if refused := self._journal.refused(request.name):
            sys.stderr.write(f"{line(refused)}\n")
        asked = {"name": request.name, "question": request.question, "schema": request.schema}
        with _terminal:
            while not self._is_answered(request):
                try:
                    value = questions.ask(asked, lambda: self._is_answered(request))
                    answer(self._journal, request, value)
                except EOFError:
                    return False
                except (AnswerInvalid, AnsweredElsewhere, WaitConflict) as error:
                    sys.stderr.write(f"{line(error.message)}\n")
        return True

    def _is_answered(self, request: WaitRequest) -> bool:
        return self._journal.wait_answer(request.name) is not None

    def _pause(self, deadline: float | None) -> None:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise WaitTimeout(
                f"The execution {self.exec_id} had not ended in time; it continues to run.",
                help="Wait again with .wait(), or read .status.",
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
