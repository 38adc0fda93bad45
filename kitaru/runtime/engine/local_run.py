"""Run a flow in this process, on a thread that can be parked but is never unwound."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from math import inf
from typing import Any, Literal
from weakref import WeakValueDictionary

from kitaru.config import secret_names
from kitaru.errors import EnvironmentFailure
from kitaru.hints import resume_command, resume_help, retry_help
from kitaru.runtime.engine import awaiting
from kitaru.runtime.engine.execution import Execution, Scope, Stop, entered
from kitaru.runtime.engine.local_children import StartDeployed
from kitaru.runtime.engine.parked_threads import parked, prepare
from kitaru.runtime.engine.retries import ONCE, Policy
from kitaru.runtime.journal import children
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.telemetry import output, spans
from kitaru.runtime.telemetry.beats import Progress
from kitaru.wire import redaction
from kitaru.wire.limits import DEFAULT_PARALLEL

Phase = Literal["running", "parked", "done"]

_LOOK_SECONDS = 0.1
_ALIVE_SECONDS = 1.0

_running: WeakValueDictionary[tuple[str, str], LocalRun] = WeakValueDictionary()
_registry = threading.Lock()


class LocalRun:
    """One execution in this process, from `start` until the execution or the process ends.

    The body runs on a daemon thread. A second, ordinary thread keeps the interpreter alive as long
    as the body can continue without an answer. At a wait without an answer the body is parked, and
    the interpreter may end: the journal contains everything that a resume needs.
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
        budget: Mapping[str, float] | None = None,
        before_start: Callable[[LocalRun], None] | None = None,
        start_deployed: StartDeployed | None = None,
        admit: Callable[[LocalRun], bool] | None = None,
    ) -> None:
        """`attempted` is true if an earlier process ran this execution.

        `admit` is called before the body runs, on its thread, and may wait for a place that the
        limits of the flow leave. The body does not run if it returns false.

        `before_start` is called before the body runs, but not if the execution is already running
        in this process. `start_deployed` is as for `Execution`.

        `is_delivered` becomes true when the caller has received the outcome, `is_abandoned` when
        the run was interrupted. `told` contains the waits whose questions this process has printed.
        """
        self.journal = journal
        self.error: BaseException | None = None
        self.is_delivered = self.is_abandoned = self._is_failing = False
        self.told: set[tuple[str, str]] = set()
        self._body = body
        self._before_start = before_start
        self._admit = admit
        self._options: dict[str, Any] = {
            "cache": cache,
            "policy": policy,
            "attempted": attempted,
            "max_parallel": max_parallel,
            "capture": capture,
            "budget": budget,
            "start_deployed": start_deployed,
        }
        self._changed = threading.Condition()
        self._phase: Phase = "running"
        self._parked: list[str] = []
        # Lets the loop of an async body look for answers.
        self._wake: Callable[[], None] | None = None
        self._watchers: list[Callable[[], object]] = []
        self._captures = False
        self._execution: Execution
        # Replaced as soon as the body has its own thread.
        self._thread = threading.current_thread()

    def start(self) -> LocalRun:
        """Start and return at once; if the execution already runs here, return that run.

        A run that is recording its failure is not returned: it would not run the body again. This
        method waits until that run is done, which takes a few operations of the store.
        """
        key = (self.journal.store.url, self.journal.exec_id)
        while True:
            with _registry:
                present = _running.get(key)
                if present is None or present.phase == "done":
                    _running[key] = self
                    break
            if not present._is_failing or present._thread is threading.current_thread():
                return present
            present.wait_until_idle()
        try:
            if self._before_start is not None:
                # From here on SIGTERM may arrive at any moment.
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
            # Ctrl-C or SIGTERM. A body that has started runs until the process ends.
            if self._thread is threading.current_thread():
                self.is_abandoned = True
                self._finish(interruption)
            raise
        return self

    @property
    def phase(self) -> Phase:
        """`running`, `parked` at unanswered waits, or `done` with or without `error`."""
        return self._phase

    @property
    def attempting(self) -> dict[str, float]:
        """The running invocations by id, with their start times on the monotonic clock."""
        # The body's thread creates the execution, possibly after this method is called.
        execution = getattr(self, "_execution", None)
        under_way = execution.beats.under_way if execution is not None else {}
        return {id: began for id, (began, _, _) in list(under_way.items())}

    @property
    def progress(self) -> dict[str, Progress]:
        """What the running invocations reported last, by id."""
        execution = getattr(self, "_execution", None)
        return {} if execution is None else dict(execution.beats.progress)

    @property
    def sleeping(self) -> dict[str, str]:
        """The sleeps that this process waits for, by id, with the moments at which they end."""
        execution = getattr(self, "_execution", None)
        return {} if execution is None else execution.sleeping

    def wait_until_idle(self, timeout: float | None = None) -> bool:
        """Wait until the body cannot continue unanswered; return False after `timeout` seconds."""
        deadline = inf if timeout is None else time.monotonic() + timeout
        with self._changed:
            while self._phase == "running":
                if not self._thread.is_alive():
                    # Without memory a thread can end before its first line or at any later line.
                    self._end(self._lost())
                elif time.monotonic() >= deadline:
                    return False
                else:
                    self._changed.wait(min(_ALIVE_SECONDS, deadline - time.monotonic()))
        return True

    @contextmanager
    def notifying(self, notify: Callable[[], object]) -> Iterator[None]:
        """Call `notify` on any thread when the run is no longer running, inside the block."""
        with self._changed:
            is_over = self._phase != "running"
            self._watchers.append(notify)
        if is_over:
            notify()
        try:
            yield
        finally:
            with self._changed:
                self._watchers.remove(notify)

    def _notify(self) -> None:
        self._changed.notify_all()
        for notify in [*self._watchers]:
            # The loop of a watcher may be closed.
            with suppress(RuntimeError):
                notify()

    def resume(self) -> bool:
        """Continue the body if its pending wait was answered or the execution was cancelled.

        Return whether the body continues.
        """
        answered = any(self._is_answered(name) for name in list(self._parked))
        if not answered and self.journal.end() is None:
            return False
        with self._changed:
            if self._phase != "parked":
                return self._phase == "running"
            self._set_running()
        self._keep_alive()
        return True

    def _is_answered(self, wait: str) -> bool:
        child = self.journal.child_of(wait)
        if child:
            return children.look(self.journal.store, self.journal.exec_id, wait, child)
        return self.journal.wait_answer(wait) is not None

    def when_idle(self, notify: Callable[[], object]) -> None:
        """Call `notify` once, on any thread, when the body cannot continue by itself."""

        def once() -> None:
            self._watchers.remove(once)
            notify()

        with self._changed:
            if self._phase == "running":
                self._watchers.append(once)
                return
        notify()

    def _set_running(self) -> None:
        self._phase = "running"
        self._parked.clear()
        wake, self._wake = self._wake, None
        if wake is not None:
            wake()
        self._changed.notify_all()

    def detach(self) -> None:
        """Let the interpreter end after an interruption although the body could continue."""
        self._pause_output()
        with self._changed:
            if self._phase == "running":
                self.is_abandoned = True
                self._end(KeyboardInterrupt())

    # What the engine asks

    def pause(self, seconds: float) -> bool:
        """Wait, unless the run is abandoned meanwhile."""
        with self._changed:
            return not self._changed.wait_for(lambda: self._phase == "done", seconds)

    def suspend(self, wait: str) -> None:
        """Park this thread until `wake`."""
        self.journal.set_state(self.journal.paused([wait]))
        self._pause_output()
        with self._changed:
            self._parked.append(wait)
            self._phase = "parked"
            self._notify()
        # An answer that arrived before this thread was parked has woken no thread.
        self.resume()
        with self._changed, parked():
            self._changed.wait_for(lambda: wait not in self._parked)

    def release(self, waits: list[str], wake: Callable[[], None]) -> None:
        """Note that the loop of the body waits for answers; it continues to run."""
        self.journal.set_state(self.journal.paused(waits))
        self._pause_output()
        with self._changed:
            self._parked += waits
            self._wake = wake
            self._phase = "parked"
            self._notify()
        # An answer that arrived before has woken no loop.
        self.resume()

    def occupy(self) -> None:
        """Note that the loop of the body continues, after a timer for example."""
        with self._changed:
            if self._phase != "parked" or self._wake is None:
                return
            self._set_running()
        self._keep_alive()

    def stop(self, why: Stop, error: BaseException | None) -> None:
        """Abandon the body, or run it again from the journal if another process recorded first."""
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
        # If this thread cannot start, the main thread waits in `_settle_all` and keeps the process
        # alive.
        with suppress(RuntimeError, MemoryError):
            thread.start()

    def keep_process_alive(self) -> None:
        """Return when the body cannot continue unanswered and its submitted calls have ended."""
        self.wait_until_idle()
        # Record the calls submitted before the wait before the process may end.
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
        """Return the exception that ended the body, None if it completed or was not admitted."""
        if self._admit is not None:
            try:
                if not self._admit(self):
                    return None
            except EnvironmentFailure as error:
                return error
        execution = self._execution = Execution(
            self.journal, self, awaiting.result_of, **self._options
        )
        try:
            with entered(Scope(execution)):
                result = self._body()
                if isinstance(result, Coroutine):
                    # asyncio is imported for async flows only.
                    from kitaru.runtime.engine import body_loop

                    result = body_loop.run(execution, result)
            execution.complete(result)
        except EnvironmentFailure as error:
            return error
        except BaseException as error:
            self._is_failing = True
            execution.fail(error, retry_help(self.journal))
            return error
        return None

    def _pause_output(self) -> None:
        # The body's thread creates the execution, possibly after the run is abandoned.
        if (execution := getattr(self, "_execution", None)) is not None:
            execution.beats.pause()
            execution.log.close()

    def _finish(self, error: BaseException | None) -> None:
        self._pause_output()
        with self._changed:
            self._end(error)
        self._wake_parent()

    def _wake_parent(self) -> None:
        """Continue the parent of this execution, if it is parked in this process."""
        above = self.journal.execution.parent.partition("/")[0]
        with _registry:
            run = _running.get((self.journal.store.url, above)) if above else None
        if run is not None and run.phase == "parked":
            # A parent that cannot read the store now looks again while somebody waits for it.
            with suppress(EnvironmentFailure):
                run.resume()

    def _end(self, error: BaseException | None) -> None:
        if self._phase != "done":
            self.error = error
            self._phase = "done"
            self._notify()
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
    """In a forked child, forget the executions of the parent: their threads do not exist here."""
    global _registry
    _registry = threading.Lock()
    _running.clear()


os.register_at_fork(after_in_child=_forget_parent)


def _settle_all() -> None:
    for run in list(_running.values()):
        run.keep_process_alive()


def abandon_all() -> list[str]:
    """Abandon the unfinished executions of this process after an interruption.

    Return the command that resumes each execution.
    """
    given_up = [run for run in list(_running.values()) if run.phase == "running"]
    for run in given_up:
        run.detach()
    return [resume_command(run.journal) for run in given_up]


def _is_any_running() -> bool:
    return any(run.phase == "running" for run in list(_running.values()))


def running_here(journal: Journal) -> LocalRun | None:
    """Return the unfinished run of an execution in this process, parked or not."""
    with _registry:
        run = _running.get((journal.store.url, journal.exec_id))
    return run if run is not None and run.phase != "done" else None
