"""Run the calls of one node of a fan-out that an earlier step submitted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from kitaru.errors import EnvironmentFailure, UsageError
from kitaru.runtime.engine import awaiting, promised_calls
from kitaru.runtime.engine.execution import Execution, Scope, Stop, entered
from kitaru.runtime.engine.signals import INTERRUPTED
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.steps.control_flow import END, ControlFlow
from kitaru.runtime.steps.frames import promised_in
from kitaru.runtime.steps.process import Request, report, say, say_failure, stop_process
from kitaru.runtime.steps.program import Program
from kitaru.runtime.telemetry import output, spans
from kitaru.wire.plan import Step


class ItemRun:
    """The process of one node.

    The process succeeds even if a call failed: the flow may catch the exception when it reads the
    result.
    """

    retries_here = True

    def __init__(
        self,
        request: Request,
        load: Callable[[], Program],
        step: Step,
        journal: Journal,
        route: ControlFlow,
    ) -> None:
        self._request = request
        self._load = load
        self._step = step
        self._journal = journal
        self._route = route

    def run(self) -> int:
        """Run the calls; return the exit code of the process."""
        promised = self._promised()
        if not promised:
            self._request.publish(END, "skip")
            return self._request.skip_code
        program = self._load()
        execution = Execution(
            self._journal,
            self,
            awaiting.result_of,
            cache=self._journal.execution.cache,
            policy=program.policy,
            attempted=True,
            run=self._request.run,
            max_parallel=program.plan.max_parallel,
            capture=program.flow.capture,
            budget=program.flow.budget,
            pickles=program.plan.pickles,
        )
        # If a node with several calls were restarted, the first failing call would use up all
        # restarts.
        execution.submitted.retries_here = self._step.retry == "shim" or len(promised) > 1
        spans.begin(self._journal, self._step.name)
        output.begin(execution)
        try:
            return self._make(execution, promised)
        finally:
            execution.beats.pause()
            output.end()

    def _promised(self) -> list[dict[str, Any]]:
        pointer = self._route.pointer(self._step.entry)
        if self._request.item == promised_calls.NOTHING or pointer is None or "passed" in pointer:
            return []
        every = promised_in(self._route.frame(pointer["from"]))
        try:
            return promised_calls.chosen(every, self._request.item)
        except (ValueError, IndexError):
            raise UsageError(
                f"--item {self._request.item!r} names none of the {len(every)} calls that were "
                "submitted.",
                help="Give what the step before wrote to its output `items`.",
            ) from None

    def _make(self, execution: Execution, promised: list[dict[str, Any]]) -> int:
        try:
            with entered(Scope(execution)):
                execution.adopt([promised_calls.read(one, execution) for one in promised])
                failed = execution.submitted.failed()
        except EnvironmentFailure as error:
            return report(error)
        except KeyboardInterrupt:
            return INTERRUPTED
        except BaseException as error:
            say_failure(error)
            return 1
        for future in failed:
            assert future.outcome is not None and future.outcome.error is not None
            say_failure(future.outcome.error)
        names = ", ".join(one["id"] for one in promised)
        say(f"kitaru: made {names}")
        self._request.publish(self._route.step_at(self._step.entry), "go")
        return 0

    # What the engine asks

    def pause(self, seconds: float) -> bool:
        """Wait in this container: the orchestrator does not start the next attempt."""
        time.sleep(seconds)
        return True

    def suspend(self, wait: str) -> None:
        """Fail: checkpoints never wait."""
        raise AssertionError(f"a submitted call waited for {wait}")

    def release(self, waits: list[str], wake: Callable[[], None]) -> None:
        """Fail: a node of a fan-out runs no loop of a body."""
        raise AssertionError(f"a submitted call waited for {waits}")

    def occupy(self) -> None:
        """Do nothing: the process is never released."""

    def stop(self, why: Stop, error: BaseException | None) -> None:
        """End the process, or restart it if another process recorded first."""
        stop_process(self._request, why, error)
