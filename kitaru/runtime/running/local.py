"""Decides how a flow runs in this process: on a thread that can be parked, but never unwound."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Literal
from weakref import WeakValueDictionary

from kitaru.config import secret_names
from kitaru.errors import EnvironmentFailure
from kitaru.runtime.observing import output, telemetry
from kitaru.runtime.recording.commands import retry_help
from kitaru.runtime.recording.journal import Journal
from kitaru.runtime.running.context import Scope, entered
from kitaru.runtime.running.engine import Execution
from kitaru.runtime.running.host import Stop
from kitaru.runtime.running.retries import ONCE, Policy
from kitaru.wire import secrecy
from kitaru.wire.limits import DEFAULT_PARALLEL

Phase = Literal["running", "parked", "done"]

_LOOK_SECONDS = 0.1

_running: WeakValueDictionary[tuple[str, str], LocalRun] = WeakValueDictionary()
_registry = threading.Lock()


class LocalRun:
    """One execution in this process, from `start` until it ends or the process does.

    The body runs on a daemon thread; a second, ordinary thread keeps the interpreter alive for as
    long as the body can go on by itself. At a wait that nobody answered the body is parked, and the
    interpreter may end: the journal knows the rest.
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
    ) -> None:
        """`attempted` says that an earlier process ran this execution."""
        self.journal = journal
        self.error: BaseException | None = None
        self._body = body
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
        self._execution: Execution

    def start(self) -> LocalRun:
        """Begin, and return at once; an execution already under way in this process is returned."""
        key = (self.journal.store.url, self.journal.exec_id)
        with _registry:
            present = _running.get(key)
            if present is not None and present.phase != "done":
                return present
            _running[key] = self
        self._begin()
        return self

    @property
    def phase(self) -> Phase:
        """`running`, `parked` at waits nobody answered, or `done` with or without `error`."""
        return self._phase

    def settled(self, timeout: float | None = None) -> bool:
        """Wait until the body cannot go on by itself; False when `timeout` seconds elapsed."""
        with self._changed:
            return self._changed.wait_for(lambda: self._phase != "running", timeout)

    def wake(self) -> bool:
        """Let the body go on if a wait it is parked at was answered, or the execution cancelled.

        Returns whether there was anything to go on for.
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

    def abandon(self) -> None:
        """Let the interpreter end although the body could go on: it was interrupted."""
        self._execution.log.close()
        with self._changed:
            if self._phase == "running":
                self._end(KeyboardInterrupt())

    # What the engine asks

    def pause(self, seconds: float) -> None:
        """Wait, unless the run is given up meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._phase == "done", seconds)

    def suspend(self, wait: str) -> None:
        """Park this thread until `wake`."""
        self._execution.log.close()
        with self._changed:
            self._parked.append(wait)
            self._phase = "parked"
            self._changed.notify_all()
        # Who answered before this thread was parked could wake nobody.
        self.wake()
        with self._changed:
            self._changed.wait_for(lambda: wait not in self._parked)

    def stop(self, why: Stop, error: BaseException | None) -> None:
        """Give the body up, or run it again from the journal when another process was first."""
        if why == "superseded":
            self._options["attempted"] = True
            self._run_body()
        else:
            self._finish(error)

    # The threads

    def _begin(self) -> None:
        secrecy.declare(secret_names())
        telemetry.begin(self.journal)
        output.begin()
        self._run_body()
        self._keep_alive()

    def _run_body(self) -> None:
        name = f"kitaru-{self.journal.exec_id}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _keep_alive(self) -> None:
        threading.Thread(target=self._outlast, name="kitaru-keep-alive", daemon=False).start()

    def _outlast(self) -> None:
        self.settled()
        # What was submitted before a wait is worth recording before the process may end.
        while self._phase == "parked" and not self._execution.drain(_LOOK_SECONDS):
            pass

    def _run(self) -> None:
        execution = self._execution = Execution(self.journal, self, **self._options)
        try:
            with entered(Scope(execution)):
                result = self._body()
            execution.complete(result)
        except EnvironmentFailure as error:
            self._finish(error)
        except BaseException as error:
            execution.fail(error, retry_help(self.journal))
            self._finish(error)
        else:
            self._finish(None)

    def _finish(self, error: BaseException | None) -> None:
        self._execution.log.close()
        with self._changed:
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if self._phase != "done":
            self.error = error
            self._phase = "done"
            output.end()
            self._changed.notify_all()


def running_here(journal: Journal) -> LocalRun | None:
    """Return the run of an execution that is under way in this process, parked or not."""
    with _registry:
        run = _running.get((journal.store.url, journal.exec_id))
    return run if run is not None and run.phase != "done" else None
