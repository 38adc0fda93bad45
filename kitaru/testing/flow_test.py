"""The object behind the fixture `flow_test`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from kitaru.errors import EnvironmentFailure
from kitaru.local_flow import LocalFlow, Runner
from kitaru.ops.answer import answer
from kitaru.ops.export import import_execution
from kitaru.ops.show import show
from kitaru.runtime.engine import timers
from kitaru.runtime.engine.local_run import LocalRun, running_here
from kitaru.runtime.engine.scripted_events import ScriptedEvents
from kitaru.runtime.executions.comparison import compare
from kitaru.runtime.executions.listing import each_execution
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.llm import providers
from kitaru.stores.memory import forget, named
from kitaru.testing.network import refuse_network
from kitaru.testing.recordings import RecordedReplies, ReplayedRecording, read_recording
from kitaru.testing.scripts import Scripts, UnusedReplies
from kitaru.view import ExecutionView
from kitaru.wire.times import now

if TYPE_CHECKING:
    from kitaru.handle import Handle
    from kitaru.runtime.llm.models import ModelRequest
    from kitaru.wire.records import WaitRequest

_numbers = count(1)
_PATIENCE_SECONDS = 60.0


class StillRunning(AssertionError):
    """A flow that a test started runs on after the test, with its models and its network."""


class FlowTest:
    """Runs flows in a test: on an empty store in memory, without cache, network and real models.

    The store is the configured one during the test, so that `flow.run(…)`, `KitaruClient()` and
    code under test use it as well. The settings of the project apply otherwise.

    It is a context manager, which the fixture enters; other test frameworks do this themselves.

    Attributes:
        store: the store of the test.

    Example:
        with FlowTest() as flow_test:
            flow_test.script("fast", ["A brief."])
            assert flow_test.run(review_flow, "kayaks").result == "A brief."
    """

    def __init__(self) -> None:
        self._url = f"memory:test-{next(_numbers)}"
        self.store = named(self._url)
        self._scripts = Scripts()
        self._answers: dict[str, Any] = {}
        self._events = ScriptedEvents()
        self._handles: dict[str, Handle[Any]] = {}
        self._network = pytest.MonkeyPatch()
        self._undo = ExitStack()
        self._frozen: Any = None

    def __enter__(self) -> Self:
        patch = self._undo.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("KITARU_STORE", self._url)
        patch.setenv("KITARU_CACHE", "false")
        for name in ("KITARU_STACK", "KITARU_LLM_MOCK_RESPONSE"):
            patch.delenv(name, raising=False)
        patch.setattr(providers, "script", self._scripts)
        patch.setattr(timers, "skip", self._skip)
        refuse_network(self._network)
        self._undo.callback(self._network.undo)
        self._undo.callback(forget, self._url)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        late = [run.journal.execution.flow for run in self._runs() if not _ended(run)]
        self._undo.close()
        if late and kind is None:
            raise StillRunning(
                f"These flows still ran {_PATIENCE_SECONDS:g} s after the test: {', '.join(late)}. "
                "Wait for their handles."
            )
        unused = [f"{number} of {model!r}" for model, number in self._scripts.unused()]
        if unused and kind is None:
            raise UnusedReplies(f"Replies were not used: {', '.join(unused)}.")

    def _runs(self) -> Iterator[LocalRun]:
        """Yield the runs of the test's executions in this process, those of `flow.run` included."""
        for item in list(each_execution(self.store)):
            run = running_here(Journal.open(self.store, item["exec_id"]))
            if run is not None:
                yield run

    def script(self, model: str, replies: Iterable[Any] | Callable[[ModelRequest], Any]) -> None:
        """Set what a model answers. More replies are appended to those set before.

        A reply is a text; a `kitaru.Reply` with tool calls; an instance of the requested `schema`,
        or its JSON; an exception, which is raised; or a `kitaru.testing.Answer`, which also sets
        tokens and cost. Other replies have as many tokens as words, and cost nothing.

        A call without a reply raises `UnexpectedModelCall`. At the end of the test, replies that
        were not used are an `UnusedReplies` error.

        Args:
            model: the alias or model as the flow names it, or `*` for every other model.
            replies: one for each call, in the order of the calls; or a function of the request,
                which calls that run at once need: their order is not fixed.

        Example:
            flow_test.script("fast", ["A brief.", Reply("", (ToolCall("1", "look", {}),))])
            flow_test.script("*", lambda request: f"Asked: {request.prompt}")
        """
        self._scripts.add(model, replies)

    def answer(self, wait: str, value: Any) -> None:
        """Set the answer to a wait, as JSON, or a function of its `WaitRequest` that returns it.

        Args:
            wait: the name of the wait; the second wait named `approve` is `approve_2`.

        Example:
            flow_test.answer("approve", True)
            flow_test.answer("amount", lambda request: request.metadata["limit"])
        """
        self._answers[wait] = value

    def event(self, name: str, data: Any = None) -> None:
        """Let an event come when the flow waits for it with `kitaru.wait_event`.

        Events come in the order of these calls. An event that no pending wait asks for is left for
        later waits.

        Args:
            name: name of the event.
            data: its JSON.

        Raises:
            UsageError: the name is not valid, or the data is not JSON.

        Example:
            flow_test.event("invoice.paid", {"order": 7})
        """
        self._events.add(name, data)

    def run(
        self, flow: LocalFlow[..., Any] | Runner[..., Any], *args: Any, **inputs: Any
    ) -> ExecutionView:
        """Run a flow until it ends, or until it waits for an answer that the test does not have.

        Nothing waits for time: sleeps end at once, and waits with a deadline for which the test has
        no answer expire. A clock that `freeze` has stopped moves to that moment.

        Args:
            flow: a flow, or a flow with options such as `review_flow.options(retries=2)`.
            args, inputs: its inputs, as for `flow.run`.

        Returns:
            The execution: `result`, `status`, `waits`, `invocations`, `calls` (of models),
            `effort` (tokens and cost).

        Raises:
            KitaruError: the flow failed, as `handle.wait()` raises it. `executions[-1]` shows the
                failed execution.
            AnswerInvalid: an answer does not fit its wait.
        """
        return self._finish(flow.run(*args, **inputs))

    def replay(
        self,
        recording: str | Path | Mapping[str, Any],
        flow: LocalFlow[..., Any],
        *,
        results: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Any] | None = None,
        models: Mapping[str, str] | None = None,
    ) -> ReplayedRecording:
        """Run a flow on the inputs of a recorded execution, and compare both.

        Checkpoints, model calls and waits whose code and arguments are unchanged are answered from
        the recording. The others run. A model call inside a checkpoint that runs is answered from
        the recording if its request is unchanged; else by `script`. Memory of other executions is
        not in the recording.

        Args:
            recording: the file or the document of `kitaru executions export`.
            flow: the flow as it is now.
            results: results to inject, by invocation.
            inputs: inputs to change, as JSON by name.
            models: models to use instead, by alias; their calls are not answered from the
                recording.

        Raises:
            UsageError: the recording cannot be read, or is not an export.
            StateError: the recording is of another flow.
            KitaruError: the replay failed.

        Example:
            replayed = flow_test.replay("runs/refund.json", refund_flow)
            assert replayed.ran == ["draft"], replayed
        """
        exec_id = import_execution(self.store, read_recording(recording))
        source = Journal.open(self.store, exec_id)
        self._scripts.recorded = RecordedReplies(source, models or {})
        handle = flow.replay(
            exec_id, results=results, inputs=inputs, models=models, reuse_unchanged=True
        )
        run = self._finish(handle)
        return ReplayedRecording(run, compare(source, Journal.open(self.store, run.exec_id)))

    def resume(self, run: ExecutionView) -> ExecutionView:
        """Continue an execution that waits, with the answers set since; see `run`."""
        return self._finish(self._handles[run.exec_id])

    def _finish(self, handle: Handle[Any]) -> ExecutionView:
        self._handles[handle.exec_id] = handle
        while handle.settle() == "waiting":
            seen = show(self.store, handle.exec_id)
            if seen.events and self._events.deliver(seen.journal):
                continue
            known = [wait for wait in seen.waits if self._has(wait)]
            expiring = [wait for wait in (*seen.waits, *seen.events) if wait.deadline]
            if not known and expiring:
                # Nobody answers in time.
                first = min(expiring, key=lambda wait: wait.deadline)
                self._skip(first.deadline)
                Journal.open(self.store, handle.exec_id).expire(first)
                continue
            if not known:
                return show(self.store, handle.exec_id)
            for wait in known:
                answer(self.store, handle.exec_id, self._value(wait), wait.name)
        handle.get()
        return show(self.store, handle.exec_id)

    def _skip(self, moment: str) -> None:
        """Move a clock that `freeze` has stopped to a moment that a flow waits for."""
        if self._frozen is not None and moment > now():
            self._frozen.move_to(datetime.fromisoformat(moment))

    def _has(self, wait: WaitRequest) -> bool:
        return wait.name in self._answers

    def _value(self, wait: WaitRequest) -> Any:
        value = self._answers[wait.name]
        return value(wait) if callable(value) else value

    @property
    def executions(self) -> list[ExecutionView]:
        """The executions that `run` started, in order, as they are now."""
        return [show(self.store, exec_id) for exec_id in self._handles]

    def allow_network(self) -> None:
        """Allow connections to other machines for the rest of the test."""
        self._network.undo()

    def freeze(self, moment: datetime | str) -> None:
        """Stop the clock at a moment, for `time`, `datetime` and the records of the test.

        It needs the library time-machine, which the extra `testing` installs.

        Args:
            moment: a time, or its ISO text such as `2026-01-31T09:00:00+01:00`.

        Raises:
            EnvironmentFailure: time-machine is not installed.
        """
        try:
            import time_machine
        except ModuleNotFoundError:
            raise EnvironmentFailure(
                "flow_test.freeze needs the library time-machine.",
                help="Install it: pip install 'time-machine>=2.13'",
            ) from None
        frozen = time_machine.travel(moment, tick=False)
        self._frozen = frozen.start()
        self._undo.callback(frozen.stop)


def _ended(run: LocalRun) -> bool:
    """Wait until a run has ended or waits for an answer; give it up if it takes too long."""
    if run.wait_until_idle(_PATIENCE_SECONDS):
        return True
    run.detach()
    return False
