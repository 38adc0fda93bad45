"""Start an execution of a deployed version, on its target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from logging import getLogger
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol

from kitaru.errors import (
    EnvironmentFailure,
    InputError,
    KitaruError,
    NotFound,
    StateError,
    UsageError,
)
from kitaru.handle import Handle
from kitaru.local_flow import other_inputs, start_id
from kitaru.ops.advance import Means, move
from kitaru.ops.submit import ProcessHandle, Submission, plan_of
from kitaru.runtime.executions.deployments import (
    DEFAULT_TAG,
    Deployment,
    Deployments,
    check_tag,
    parse,
)
from kitaru.runtime.journal import launches, rounds
from kitaru.runtime.journal.audit import audited
from kitaru.runtime.journal.journal import Journal
from kitaru.status import ExecutionStatus
from kitaru.stores import resolve_store
from kitaru.wire import keys
from kitaru.wire.flow_events import recorded_cancels
from kitaru.wire.ids import new_execution_id
from kitaru.wire.records import LaunchRecord
from kitaru.wire.starts import refuse_while_importing
from kitaru.wire.structs import replace
from kitaru.wire.tags import check_tags

if TYPE_CHECKING:
    from subprocess import Popen

    from kitaru.stores.base import Store


class FlowHere(Protocol):
    """A flow defined in this program, such as a `kitaru.flows.Flow`."""

    @property
    def name(self) -> str: ...
    @property
    def function(self) -> Callable[..., Any]: ...


class StartedHandle(Handle[Any]):
    """An execution submitted to a service; its first step starts some time later."""

    def __init__(self, store: Store, exec_id: str, flow: str) -> None:
        self.exec_id = exec_id
        self.flow = flow
        self._store = store
        self._run = self._otherwise = None
        self._found: Journal | None = None

    @property
    def status(self) -> ExecutionStatus:
        """The status of the execution, `running` before its first step has started."""
        try:
            return super().status
        except NotFound:
            return ExecutionStatus.RUNNING

    @property
    def _journal(self) -> Journal:  # type: ignore[override]
        if self._found is None:
            self._found = Journal.open(self._store, self.exec_id)
        return self._found


@dataclass(frozen=True, slots=True)
class Invoked:
    """A started execution: its handle, its version, and the run of its target.

    `run` is None if a dispatcher starts the run later. `limit` is the limit of the flow that leaves
    no place for it, empty without; `is_skipped`: it was cancelled for that reason. `is_new` is
    false if an earlier call with the same id or key started the execution.
    """

    handle: Handle[Any]
    version: Deployment
    run: Submission | None
    is_new: bool = True
    limit: str = ""
    is_skipped: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class FlowDeployment:
    """A version of a deployed flow that can be invoked.

    `record` describes the deployment and the tags that point to it.

    Example:
        review_flow.deployment(tag="stable").invoke(topic="kayaks").wait()
    """

    record: Deployment
    store: Store

    @property
    def flow(self) -> str:
        """Name of the flow."""
        return self.record.flow

    @property
    def version(self) -> str:
        """Version, such as `v3`."""
        return self.record.version

    @property
    def target(self) -> str:
        """Name of the target."""
        return self.record.target

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags that pointed to the version when it was read."""
        return self.record.tags

    def __repr__(self) -> str:
        return f"<FlowDeployment {self.flow} {self.version} of the target {self.target}>"

    def invoke(self, **inputs: Any) -> Handle[Any]:
        """Start an execution of this version; see `Flow.invoke`."""
        refuse_while_importing(f"{self.flow}.deployment(…).invoke(…)")
        return invoke(self.store, self.record, as_json(self.flow, inputs)).handle


def find(
    store: Store, flow: str, *, tag: str | None = None, version: int | str | None = None
) -> Deployment:
    """Return the version of a flow for a tag or a number; default the tag `default`.

    `flow` may also be `FLOW@TAG` or `FLOW@vN`. `version` is 3, "3" or "v3".

    Raises:
        NotFound: the flow is not deployed, or has no such version or tag.
        UsageError: both a tag and a version are passed, or one is not valid.
    """
    if sum(named is not None for named in (tag, version)) + ("@" in flow) > 1:
        raise UsageError(
            f"More than one version of {flow.partition('@')[0]} was selected.",
            help="Pass one tag or one version.",
        )
    if tag is not None:
        name = f"{flow}@{check_tag(tag)}"
    elif version is not None:
        name = f"{flow}@v{str(version).removeprefix('v')}"
        if not isinstance(parse(name)[1], int):
            raise UsageError(f"{version!r} is not a version.", help="such as 3 or v3")
    else:
        name = flow if "@" in flow else f"{flow}@{DEFAULT_TAG}"
    return Deployments(store).get(name)


def invoke(
    store: Store,
    version: Deployment,
    inputs: Mapping[str, Any],
    *,
    exec_id: str | None = None,
    key: str | None = None,
    means: Means | None = None,
    tags: Mapping[str, str | float] | None = None,
) -> Invoked:
    """Start an execution of a version: as a run of its target's service, or a process here.

    The execution keeps its version when tags move. Only the store is read.

    Args:
        inputs: the flow's inputs by name, as JSON.
        exec_id: the execution's id; default a new id. If an earlier call failed before the service
            confirmed it, repeat it with the same id, version and inputs to address the same run.
        key: what identifies the start, such as `order-7`, instead of an id. The same key of a flow
            is the same execution, of the version that the first call started.
        means: how its run is started. Default: at once, with the options of the settings.
        tags: tags of the execution by name.

    Raises:
        InputError: an input is missing, unknown or of the wrong type; nothing was started.
        StateError: the execution `exec_id` was started with another version or other inputs, or the
            key with other inputs.
        UsageError: the service cannot reach the store, or an option is unknown.
        EnvironmentFailure: the SDK or a package is missing, or the store or the service refused.
        FlowError: the flow's module cannot be imported.
    """
    from kitaru_targets.common import parameters

    chosen = start_id(version.flow, exec_id, key)
    earlier = None if chosen is None else launches.recall(store, chosen)
    if key is not None and earlier is not None and earlier.deployment:
        # The tag may have moved since the first call.
        version = find(store, version.flow, version=earlier.deployment)
    plan = plan_of(store, version)
    parameters.values(plan, inputs)
    tagged = check_tags(tags or {})
    asked = LaunchRecord(
        version.flow, dict(inputs), version.number, tag=version.tag, tags=tagged,
        cancel_on=recorded_cancels(plan.events, plan.parameters, inputs),
    )  # fmt: skip
    exec_id = chosen or new_execution_id()
    # The call may be repeated with the number of the version, after its tag was moved.
    with audited(store, "invoke", version.version, flow=version.flow, exec_id=exec_id):
        held = launches.record_launch(store, exec_id, asked)
        # Only the first call knows from which event on the execution may be cancelled.
        if replace(held, tag=version.tag, cancel_on=asked.cancel_on) != asked:
            if key is not None:
                raise other_inputs(store, version.flow, key)
            raise StateError(
                f"The execution {exec_id} was started from another version, or with other inputs.",
                help="Omit its id to start another one.",
            )
    means = means or Means()
    try:
        done = move(store, exec_id, means)
    except KitaruError as error:
        # The caller knows that it has not started, and repeats the call if it is wanted.
        rounds.drop(store, keys.due_launch(exec_id))
        if isinstance(error, EnvironmentFailure):
            raise _unconfirmed(error, version, exec_id) from error
        raise
    handle: Handle[Any] = StartedHandle(store, exec_id, version.flow)
    run = done.submission
    if run is not None and run.process is not None:
        handle = ProcessHandle(Journal.open(store, exec_id), run.process)
    return Invoked(
        handle, version, run, is_new=earlier is None, limit=done.limit, is_skipped=done.is_skipped
    )


class _Process:
    """A child execution in a process of this machine."""

    def __init__(self, popen: Popen[bytes]) -> None:
        self._popen = popen

    def when_idle(self, notify: Callable[[], object]) -> None:
        """Call `notify` when the process has ended."""

        def wait() -> None:
            self._popen.wait()
            notify()

        # This program stays alive: its own execution continues when the child has ended.
        Thread(target=wait, name="kitaru-child").start()


def start_child(store: Store, exec_id: str) -> _Process | None:
    """Start the run of a child whose launch is recorded; return its process on this machine.

    Returns None if a service runs it, or it cannot be started now: its hint stays for a dispatcher.
    """
    try:
        run = move(store, exec_id).submission
    except KitaruError as error:
        getLogger("kitaru").warning("the child %s does not start yet: %s", exec_id, error)
        return None
    if run is None or run.process is None:
        return None
    return _Process(run.process.popen)


def _unconfirmed(error: EnvironmentFailure, version: Deployment, exec_id: str) -> KitaruError:
    """Return an error with the command to repeat a start that may have succeeded."""
    again = f"kitaru invoke {version.flow}@{version.version} --id {exec_id} …"
    said = f"With the same inputs this starts one run, whether it began or not: {again}"
    return type(error)(error.message, help=f"{error.help}\n{said}" if error.help else said)


def invoke_named(
    store: Store,
    flow: str,
    inputs: Mapping[str, Any],
    *,
    tag: str | None = None,
    version: int | str | None = None,
    exec_id: str | None = None,
    key: str | None = None,
    options: Mapping[str, str] | None = None,
    tags: Mapping[str, str | float] | None = None,
) -> Handle[Any]:
    """Start an execution of the version that `find` returns, with Python inputs."""
    found = find(store, flow, tag=tag, version=version)
    means = Means(options or {})
    given = as_json(flow, inputs)
    return invoke(store, found, given, exec_id=exec_id, key=key, means=means, tags=tags).handle


def invoke_flow(flow: FlowHere, args: Sequence[Any], inputs: Mapping[str, Any]) -> Handle[Any]:
    """Start an execution of the version with the tag `default`, for a flow of this program."""
    from inspect import signature

    # The version may have other inputs than the code here, so the version binds them.
    named = dict(zip(signature(flow.function).parameters, args, strict=False))
    return invoke_named(resolve_store(None), flow.name, {**named, **inputs})


def deployment_of(
    flow: FlowHere, tag: str | None, version: int | str | None, store: str | Store | None
) -> FlowDeployment:
    """Return a version of a flow of this program; see `Flow.deployment`."""
    where = resolve_store(store)
    return FlowDeployment(find(where, flow.name, tag=tag, version=version), where)


def deployments_of(flow: FlowHere, store: str | Store | None) -> list[FlowDeployment]:
    """Return the versions of a flow of this program, the oldest first."""
    where = resolve_store(store)
    return [FlowDeployment(one, where) for one in Deployments(where).list(flow.name)]


def as_json(flow: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    try:
        return {name: to_jsonable_python(value) for name, value in inputs.items()}
    except PydanticSerializationError as error:
        raise InputError(
            f"The inputs of {flow} cannot be sent to a deployed version: {error}",
            help="Inputs are sent as JSON: strings, numbers, lists, objects, dataclasses, models.",
        ) from None
