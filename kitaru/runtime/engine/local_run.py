"""Run a flow in this process, on a thread that can be parked but never unwound."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any, Literal
from weakref import WeakValueDictionary

from kitaru.config import secret_names
from kitaru.errors import EnvironmentFailure
from kitaru.hints import resume_command, resume_help, retry_help
from kitaru.runtime.engine.execution import Execution, Scope, Stop, entered
from kitaru.runtime.engine.parked_threads import parked, prepare
from kitaru.runtime.engine.retries import ONCE, Policy
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.telemetry import output, spans
from kitaru.wire import redaction
from kitaru.wire.limits import DEFAULT_PARALLEL

Phase = Literal["running", "parked", "done"]

_LOOK_SECONDS = 0.1
_ALIVE_SECONDS = 1.0

_running: WeakValueDictionary[tuple[str, str], LocalRun] = WeakValueDictionary()
_registry = threading.Lock()


class LocalRun:
    """One execution in this process, from `start` until it ends or the process does.

    The body runs on a daemon thread. A second, ordinary thread keeps the interpreter alive as long
    as the body can continue by itself. At a wait without an answer, the body is parked, and the
    interpreter may end: the journal has everything that a resume needs.
    """

    retries_here = True

    def __init__(
        self,
        journal: Journal,
        body: Callable[[], Any],
        *,
        cache: bool = True,
        policy: Policy = ONCE,
        attempted: bool = False,
        max_parallel: int = DEFAULT_PARALLEL,
        capture: str | None = None,
        before_start: Callable[[LocalRun], None] | None = None,
    ) -> None:
        """`attempted` means that an earlier process ran this execution.

        `before_start` is called before the body runs, and not where the execution is under way in
        this process already.

        `is_delivered` becomes true when the caller got the outcome, `is_abandoned` when the run was
        interrupted; `told` contains the waits whose questions this process printed.
        """
        self.journal = journal
        self.error: BaseException | None = None
        self.is_delivered = self.is_abandoned = False
        self.told: set[tuple[str, str]] = set()
        self._body = body
        self._before_start = before_start
        self._options: dict[str, Any] = {
            "cache": cache,
            "policy": policy,
            "attempted": attempted,
            "max_parallel": max_parallel,
            "capture": capture,
        }
        self._changed = threading.Condition()
        self._phase: Phase = "running"
        self._parked: list[str] = []
        self._captures = False
        self._execution: Execution
        # Until the body has a thread of its own.
        self._thread = threading.current_thread()

    def start(self) -> LocalRun:
        """Begin, and return at once; an execution already under way in this process is returned."""
        key = (self.journal.store.url, self.journal.exec_id)
        with _registry:
            present = _running.get(key)
            if present is not None and present.phase != "done":
                return present
            _running[key] = self
        try:
            if self._before_start is not None:
                # SIGTERM may come at any moment from then on.
                self._before_start(self)
            self._begin()
        except (RuntimeError, MemoryError, OSError) as error:
            self.is_delivered = True
            self._finish(error)
            raise self._not_started(error) from error
        except Exception as error:
            self.is_delivered = True
            self._finish(error)
            raise
        except BaseException as interruption:
            # Ctrl-C or SIGTERM. A body that has begun runs on until the process ends.
            if self._thread is threading.current_thread():
                self.is_abandoned = True
                self._finish(interruption)
            raise
        return self

    @property
    def phase(self) -> Phase:
        """`running`, `parked` at waits nobody answered, or `done` with or without `error`."""
        return self._phase

    @property
    def attempting(self) -> dict[str, float]:
        """The invocations that run now, by id, and since when by the monotonic clock."""
        # The body's thread makes the execution, maybe later than somebody looks.
        execution = getattr(self, "_execution", None)
        return dict(execution.attempting) if execution is not None else {}

    def wait_until_idle(self, timeout: float | None = None) -> bool:
        """Wait until the body cannot continue by itself; False if `timeout` seconds elapsed."""
        deadline = inf if timeout is None else time.monotonic() + timeout
        with self._changed:
            while self._phase == "running":
                if not self._thread.is_alive():
                    # Without memory a thread can end before its first line, and at any later one.
                    self._end(self._lost())
                elif time.monotonic() >= deadline:
                    return False
                else:
                    self._changed.wait(min(_ALIVE_SECONDS, deadline - time.monotonic()))
        return True

    def resume(self) -> bool:
        """Continue the body if its pending wait was answered, or if the execution was cancelled.

        Returns whether the body continues.
        """
        answered = any(self.journal.wait_answer(name) for name in list(self._parked))
        if not answered and self.journal.end() is None:
            return False
        with self._changed:
            if self._phase != "parked":
                return self._phase == "running"
            self._phase = "running"
            self._parked.clear()
            self._changed.notify_all()
        self._keep_alive()
        return True

    def detach(self) -> None:
        """Let the interpreter end although the body could continue, after an interruption."""
        self._close_log()
        with self._changed:
            if self._phase == "running":
                self.is_abandoned = True
                self._end(KeyboardInterrupt())

    # What the engine asks

    def pause(self, seconds: float) -> None:
        """Wait, unless the run is given up meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._phase == "done", seconds)

    def suspend(self, wait: str) -> None:
        """Park this thread until `wake`."""
        self._close_log()
        with self._changed:
            self._parked.append(wait)
            self._phase = "parked"
            self._changed.notify_all()
        # Who answered before this thread was parked could wake nobody.
        self.resume()
        with self._changed, parked():
            self._changed.wait_for(lambda: wait not in self._parked)

    def stop(self, why: Stop, error: BaseException | None) -> None:
        """Give the body up, or run it again from the journal when another process was first."""
        if why != "superseded":
            self._finish(error)
            return
        self._options["attempted"] = True
        try:
            self._run_body()
        except Exception as failure:
            self._finish(self._not_started(failure))

    # The threads

    def _begin(self) -> None:
        prepare(_settle_all, abandon_all, _is_any_running)
        redaction.register_names(secret_names())
        spans.begin(self.journal)
        output.begin()
        self._captures = True
        self._run_body()
        self._keep_alive()

    def _run_body(self) -> None:
        name = f"kitaru-{self.journal.exec_id}"
        thread = threading.Thread(target=self._run, name=name, daemon=True)
        with self._changed:
            self._thread = thread
            thread.start()

    def _keep_alive(self) -> None:
        thread = threading.Thread(
            target=self.keep_process_alive, name="kitaru-keep-alive", daemon=False
        )
        # Without it the process lives until its main thread ends, which waits for `_settle_all`.
        with suppress(RuntimeError, MemoryError):
            thread.start()

    def keep_process_alive(self) -> None:
        """Return when the body cannot continue by itself, and what it submitted has ended."""
        self.wait_until_idle()
        # What was submitted before a wait is worth recording before the process may end.
        while self._phase == "parked" and not self._execution.drain(_LOOK_SECONDS):
            pass

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            error = self._run_to_end()
        except BaseException as failure:
            error = failure
        finally:
            self._finish(error)

    def _run_to_end(self) -> BaseException | None:
        """Return what ended the body, None where it completed."""
        execution = self._execution = Execution(self.journal, self, **self._options)
        try:
            with entered(Scope(execution)):
                result = self._body()
            execution.complete(result)
        except EnvironmentFailure as error:
            return error
        except BaseException as error:
            execution.fail(error, retry_help(self.journal))
            return error
        return None

    def _close_log(self) -> None:
        # The body's thread makes the execution, maybe later than somebody gives the run up.
        if (execution := getattr(self, "_execution", None)) is not None:
            execution.log.close()

    def _finish(self, error: BaseException | None) -> None:
        self._close_log()
        with self._changed:
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if self._phase != "done":
            self.error = error
            self._phase = "done"
            self._changed.notify_all()
            if self._captures:
                output.end()

    def _not_started(self, error: Exception) -> EnvironmentFailure:
        return EnvironmentFailure(
            f"The execution {self.journal.exec_id} of {self.journal.execution.flow} cannot run in "
            f"this process: {type(error).__name__}: {error}.",
            help=f"What it needs is missing here, such as memory or threads. "
            f"{resume_help(self.journal)}",
        )

    def _lost(self) -> EnvironmentFailure:
        return EnvironmentFailure(
            f"The thread of the execution {self.journal.exec_id} ended before the execution did.",
            help=f"This happens when a process has no memory left. {resume_help(self.journal)}",
        )


def _forget_parent() -> None:
    """Wait for no execution of the parent, in a forked child: their threads are not there."""
    global _registry
    _registry = threading.Lock()
    _running.clear()


os.register_at_fork(after_in_child=_forget_parent)


def _settle_all() -> None:
    for run in list(_running.values()):
        run.keep_process_alive()


def abandon_all() -> list[str]:
    """Give up what could continue in this process, which is interrupted.

    Returns the command that resumes each execution.
    """
    given_up = [run for run in list(_running.values()) if run.phase == "running"]
    for run in given_up:
        run.detach()
    return [resume_command(run.journal) for run in given_up]


def _is_any_running() -> bool:
    return any(run.phase == "running" for run in list(_running.values()))


def running_here(journal: Journal) -> LocalRun | None:
    """Return the run of an execution that is under way in this process, parked or not."""
    with _registry:
        run = _running.get((journal.store.url, journal.exec_id))
    return run if run is not None and run.phase != "done" else None
