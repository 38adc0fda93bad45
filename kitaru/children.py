"""Child executions: `kitaru.invoke` starts another flow as an execution of its own."""

from __future__ import annotations

from collections.abc import Coroutine, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kitaru.errors import InputError, UsageError
from kitaru.loading import load_flow
from kitaru.local_flow import LocalFlow, create_execution, start_run
from kitaru.runtime import codec
from kitaru.runtime.engine import child_calls, inputs
from kitaru.runtime.engine.calls import Spec
from kitaru.runtime.engine.execution import Execution, in_body, in_checkpoint
from kitaru.runtime.engine.local_run import LocalRun
from kitaru.runtime.engine.retries import ONCE
from kitaru.runtime.executions.deployments import Deployment, Deployments, parse
from kitaru.runtime.journal import children, launches
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.to_json import as_json
from kitaru.stores.base import Store
from kitaru.wire import ids
from kitaru.wire.flow_events import recorded_cancels
from kitaru.wire.plan import Plan
from kitaru.wire.records import ChildRecord, LaunchRecord, OnCancel
from kitaru.wire.times import now

__all__ = ["Child", "invoke"]


@dataclass(frozen=True, slots=True)
class Child:
    """A child execution that `kitaru.invoke(…, wait=False)` has started.

    It can be recorded, and crosses from one step to the next. `await child` waits for the result in
    an async flow.

    Attributes:
        exec_id: the id of its execution.
        flow: the name of its flow.
        version: its version, such as `v3`; empty for a flow that runs in this process.
        invocation: the id of the call that started it.
    """

    exec_id: str
    flow: str
    version: str
    invocation: str

    def result(self) -> Any:
        """Suspend the execution until the child has ended, and return its result.

        Only in a flow's body. A later call returns the same result.

        Raises:
            ChildFailed: the child failed or was cancelled.
            ContextError: the call is outside a flow's body.
        """
        execution = in_body("Child.result")
        _run_here(execution, self)
        return child_calls.result(execution, self.exec_id, self.flow, self.invocation)

    def __await__(self) -> Generator[Any, Any, Any]:
        """Wait for the result without blocking the event loop; raises what `result` raises."""
        execution = in_body("await of a child")
        _run_here(execution, self)
        return child_calls.awaited_result(
            execution, self.exec_id, self.flow, self.invocation
        ).__await__()


def invoke(
    flow: str | LocalFlow[Any, Any],
    inputs: Mapping[str, Any] | None = None,
    *,
    wait: bool = True,
    on_cancel: Literal["cancel", "abandon"] = "cancel",
) -> Any:
    """Start another flow as a child execution, and return its result. Only in a flow's body.

    The child has its own id, version, retries and target. Its id follows from this execution and
    this call, so a repeated call starts nothing twice. An execution that waits for a child uses no
    compute.

    Args:
        flow: `FLOW`, `FLOW@TAG` or `FLOW@vN`, as for `kitaru invoke`: a version that is deployed in
            the store of this execution. A tag is read once. Or a flow of this program: it runs in
            this process if this execution does, otherwise it means its version `default`.
        inputs: the inputs of the child by name. Default: none.
        wait: whether to suspend until the child has ended. With false, return a `Child` at once.
        on_cancel: what happens to the child if this execution is cancelled: `cancel` it, or
            `abandon` it, which lets it run on.

    Raises:
        ChildFailed: the child failed or was cancelled.
        NotFound: the flow is not deployed, or has no such version or tag.
        InputError: an input of the child is missing or unknown.
        ContextError: the call is outside a flow's body.
        UsageError: `flow`, `inputs` or `on_cancel` is no valid value.

    Example:
        invoice = kitaru.invoke("billing@stable", {"customer": customer})

        reports = [kitaru.invoke(report_flow, {"day": day}, wait=False) for day in days]
        texts = [report.result() for report in reports]
    """
    execution = in_body("kitaru.invoke")
    asked = _Asked(execution, flow, inputs, on_cancel)
    child: Child = execution.invoke(asked.spec, (), asked.given, None)
    asked.run_here(child)
    return child.result() if wait else child


def invoke_async(
    flow: str | LocalFlow[Any, Any],
    given: Mapping[str, Any] | None,
    *,
    wait: bool,
    on_cancel: OnCancel,
) -> Coroutine[Any, Any, Any]:
    """Return the coroutine of `kitaru.aio.invoke`. The call's id is taken now."""
    from kitaru.runtime.engine import awaited_calls

    execution = in_body("kitaru.aio.invoke")
    asked = _Asked(execution, flow, given, on_cancel)
    started = awaited_calls.call(execution, asked.spec, (), asked.given, None)
    return _awaited(asked, started, wait=wait)


async def _awaited(asked: _Asked, started: Coroutine[Any, Any, Child], *, wait: bool) -> Any:
    child = await started
    asked.run_here(child)
    return await child if wait else child


class _Asked:
    """One call of `invoke`: its checked arguments, and what it starts."""

    def __init__(
        self,
        execution: Execution,
        flow: str | LocalFlow[Any, Any],
        given: Mapping[str, Any] | None,
        on_cancel: OnCancel,
    ) -> None:
        _check(flow, given, on_cancel)
        self.given = dict(given or {})
        self._execution = execution
        self._journal = execution.journal
        self._flow = flow
        self._on_cancel = on_cancel
        # The child that this call has just created, for this process to run.
        self._made: Journal | None = None
        name = parse(flow)[0] if isinstance(flow, str) else flow.name
        self.spec = Spec(name, self._start, child_calls.CALLEE, kind="child", policy=ONCE)

    def _start(self, **given: Any) -> Child:
        _, running = in_checkpoint("kitaru.invoke")
        invocation = running.invocation
        exec_id = ids.child_execution_id(self._journal.exec_id, invocation)
        if isinstance(self._flow, LocalFlow) and self._journal.execution.mode != "deployed":
            return self._start_here(self._flow, exec_id, invocation, given)
        return self._launch(exec_id, invocation, given)

    def _start_here(
        self, flow: LocalFlow[Any, Any], exec_id: str, invocation: str, given: dict[str, Any]
    ) -> Child:
        """Record an execution of a flow of this program."""
        bound = inputs.bind(flow.name, flow.function, (), given)
        if self._may_start(exec_id, flow.name, invocation):
            self._made = create_execution(
                flow,
                self._journal.store,
                bound,
                exec_id=exec_id,
                mode=self._journal.execution.mode,
                parent=f"{self._journal.exec_id}/{invocation}",
            )
        return Child(exec_id, flow.name, "", invocation)

    def _launch(self, exec_id: str, invocation: str, given: dict[str, Any]) -> Child:
        """Record the launch of a deployed version. An earlier attempt has chosen the version."""
        store = self._journal.store
        launch = launches.recall(store, exec_id)
        if launch is None:
            name = self._flow if isinstance(self._flow, str) else self._flow.name
            version = Deployments(store).get(name)
            plan = Plan.from_json(Deployments(store).read(version, launches.PLAN))
            _check_names(version, plan, given)
            values = {key: as_json(codec.encode(value)) for key, value in given.items()}
            parent = f"{self._journal.exec_id}/{invocation}"
            launch = LaunchRecord(
                version.flow, values, version.number, tag=version.tag, parent=parent,
                cancel_on=recorded_cancels(plan.events, plan.parameters, values),
            )  # fmt: skip
            if self._may_start(exec_id, version.flow, invocation):
                launch = launches.record_launch(store, exec_id, launch)
        return Child(exec_id, launch.flow, f"v{launch.deployment}", invocation)

    def _may_start(self, exec_id: str, flow: str, invocation: str) -> bool:
        """Note a child; return whether it may start: a cancelled execution starts none.

        Its canceller writes the end and then reads the notes, so it finds the child or this call
        finds the end.
        """
        journal = self._journal
        noted = ChildRecord(exec_id, flow, invocation, self._on_cancel, now())
        children.note(journal.store, journal.exec_id, noted)
        return journal.end() is None

    def run_here(self, child: Child) -> None:
        """Run the child in this process, or start its process, unless a dispatcher does."""
        flow = self._flow if isinstance(self._flow, LocalFlow) else None
        _run_here(self._execution, child, flow, self._made)


def _run_here(
    execution: Execution,
    child: Child,
    flow: LocalFlow[Any, Any] | None = None,
    made: Journal | None = None,
) -> None:
    journal, wait = execution.journal, children.wait_of(child.invocation)
    if child.version and journal.execution.mode == "local":
        execution.children.begin_deployed(wait, journal.store, child.exec_id)
    elif not child.version:
        execution.children.begin(wait, lambda: _run(journal.store, child.exec_id, flow, made))


def _run(
    store: Store, exec_id: str, flow: LocalFlow[Any, Any] | None, made: Journal | None
) -> LocalRun | None:
    """Run a child in this process; return None if it has ended."""
    journal = made or Journal.open(store, exec_id)
    if made is None and journal.end() is not None:
        return None
    return start_run(flow or load_flow(journal.execution), journal, fresh=made is not None)


def _check(flow: Any, given: Any, on_cancel: Any) -> None:
    """Raise UsageError for an argument that is no valid value."""
    if on_cancel not in ("cancel", "abandon"):
        raise UsageError(
            f"kitaru.invoke: on_cancel={on_cancel!r} is no policy.",
            help='Use "cancel", or "abandon" to let the child run on.',
        )
    if not isinstance(flow, str | LocalFlow):
        raise UsageError(
            f"kitaru.invoke: {flow!r} is no flow.",
            help='Pass a flow, or the name of a deployed one, such as "billing@stable".',
        )
    if given is not None and not (
        isinstance(given, Mapping) and all(type(n) is str for n in given)
    ):
        raise UsageError(
            f"kitaru.invoke: the inputs {given!r} are no mapping by name.",
            help='Pass them by name: kitaru.invoke("billing", {"customer": 7}).',
        )


def _check_names(version: Deployment, plan: Plan, given: Mapping[str, Any]) -> None:
    """Raise InputError for a missing or an unknown input. The child checks the types itself."""
    wanted = {one.name: one.required for one in plan.parameters}
    missing = [name for name, required in wanted.items() if required and name not in given]
    unknown = [name for name in given if name not in wanted]
    if missing or unknown:
        what = f"needs the input {missing[0]}" if missing else f"has no input {unknown[0]}"
        raise InputError(
            f"{version.flow} {version.version} {what}.",
            help=f"Its inputs: {', '.join(wanted) or 'none'}",
        )
