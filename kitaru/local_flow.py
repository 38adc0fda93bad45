"""Run flows in this process: a new execution, a recorded one from its journal, or a replay."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import cached_property, update_wrapper
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    ParamSpec,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from kitaru import hints
from kitaru.compat.explaining import Explaining
from kitaru.config import is_image, secret_names, setting, stacks
from kitaru.errors import ContextError, StateError, UsageError
from kitaru.handle import Handle
from kitaru.runtime import codec
from kitaru.runtime.engine import declared_changes, exit_report, inputs, recorded_inputs
from kitaru.runtime.engine.execution import current, in_body
from kitaru.runtime.engine.local_run import LocalRun, running_here
from kitaru.runtime.engine.options import check_option
from kitaru.runtime.engine.retries import Policy, RetryOn, policy
from kitaru.runtime.journal import processes, sources
from kitaru.runtime.journal.blobs import store_value
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.to_json import as_json
from kitaru.runtime.llm import preload
from kitaru.runtime.llm.model_calls import Capture, check_capture
from kitaru.stores import resolve_store
from kitaru.version import VERSION
from kitaru.wire import canonical, keys, redaction
from kitaru.wire.fingerprint import fingerprint_function
from kitaru.wire.ids import check_execution_id, keyed_execution_id, new_execution_id
from kitaru.wire.modules import SCRIPT, file_of, home_name, undecorated
from kitaru.wire.names import check_name, suggestion
from kitaru.wire.records import EndRecord, ExecutionRecord, Mode
from kitaru.wire.starts import refuse_while_importing
from kitaru.wire.structs import replace
from kitaru.wire.tags import check_tags
from kitaru.wire.times import now

if TYPE_CHECKING:
    from inspect import BoundArguments

    from kitaru.compat.names import ImageSettings
    from kitaru.runtime.engine.local_children import RunningChild
    from kitaru.runtime.executions.replay import Changes
    from kitaru.stores.base import Store
    from kitaru.wire.cron import Catchup, Overlap, ScheduleBy
    from kitaru.wire.flow_events import EventPattern
    from kitaru.wire.flow_limits import FlowLimits, Limit

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")

_GENERATOR = 0x20 | 0x200


class FlowOptions(TypedDict, total=False):
    """The options of `@flow`, which documents them."""

    name: str | None
    cache: bool | None
    retries: int | None
    retry_delay: float | None
    backoff: float | None
    retry_on: RetryOn | None
    max_parallel: int | None
    capture: Capture | None
    budget: Mapping[str, float] | None
    image: str | ImageSettings | None
    stack: str | None
    schedule: str | None
    timezone: str | None
    overlap: Overlap | None
    catchup: Catchup | None
    schedule_by: ScheduleBy | None
    concurrency: int | Limit | Sequence[int | Limit] | None
    rate_limit: Limit | Sequence[Limit] | None
    priority: str | None
    on: str | Sequence[str] | None
    where: str | None
    cancel_on: str | EventPattern | Sequence[str | EventPattern] | None
    on_failure: str | None
    on_waiting: str | None


class RunOptions(TypedDict, total=False):
    """Options of `.run(…)` in addition to the flow's inputs. An input of the same name wins.

    `cache` and `retries` are the options of `.options(…)`. `stack` is the stack whose store is
    used. `image` is for containers and has no effect here.
    """

    cache: bool | None
    retries: int | None
    stack: str | None
    image: str | ImageSettings | None


class ReplayOptions(TypedDict, total=False):
    """Options of `.replay(…)`, which documents them."""

    start: str
    at_failure: bool
    results: Mapping[str, Any] | None
    inputs: Mapping[str, Any] | None
    models: Mapping[str, str] | None
    reuse_unchanged: bool
    store: str | Store | None


class LocalFlow(Explaining, Generic[P, R_co]):
    """A flow that runs in this process; `kitaru.flows.Flow` adds its deployments.

    Attributes:
        name: the name in its executions.
        function: the decorated function.
        module: the name under which another process imports it.
        file: the path of its source. Code without a file (standard input, `python -c`, a notebook)
            has the module `__main__` and no file.
    """

    def __init__(
        self,
        function: Callable[P, R_co],
        *,
        name: str | None = None,
        cache: bool | None = None,
        retries: int | None = None,
        retry_delay: float | None = None,
        backoff: float | None = None,
        retry_on: RetryOn | None = None,
        max_parallel: int | None = None,
        capture: Capture | None = None,
        budget: Mapping[str, float] | None = None,
        image: str | ImageSettings | None = None,
        stack: str | None = None,
        schedule: str | None = None,
        timezone: str | None = None,
        overlap: Overlap | None = None,
        catchup: Catchup | None = None,
        schedule_by: ScheduleBy | None = None,
        concurrency: int | Limit | Sequence[int | Limit] | None = None,
        rate_limit: Limit | Sequence[Limit] | None = None,
        priority: str | None = None,
        on: str | Sequence[str] | None = None,
        where: str | None = None,
        cancel_on: str | EventPattern | Sequence[str | EventPattern] | None = None,
        on_failure: str | None = None,
        on_waiting: str | None = None,
    ) -> None:
        _check_function(function)
        update_wrapper(self, function)
        self.function = function
        self.module = home_name(function)
        self.file = _file(function, self.module)
        self._source = sources.SourceFile(self.file)
        check_option("@flow", "name", name, str)
        check_option("@flow", "cache", cache, bool)
        check_option("@flow", "stack", stack, str)
        _check_schedule(schedule, timezone, overlap, catchup, schedule_by)
        self.limits: FlowLimits | None = None
        if (concurrency, rate_limit, priority) != (None, None, None):
            from kitaru.wire.flow_limits import flow_limits

            self.limits = flow_limits(concurrency, rate_limit, priority)
        events = on, where, cancel_on, on_failure, on_waiting
        if any(one is not None for one in events):
            from kitaru.wire.flow_events import flow_events

            # The compiler reads them. An execution of this process does not depend on them.
            flow_events(*events)
        self.name = check_name("flow", name or function.__name__)
        self.cache = cache
        self.policy = policy("@flow", retries, retry_delay, backoff, retry_on)
        self.stack = stack
        for option, value in (("max_parallel", max_parallel), ("image", _reference(image))):
            if value is not None:
                setting(option, decorator=value)
        self.max_parallel = max_parallel
        self.capture = check_capture("@flow", capture)
        self.budget = setting("budget", decorator=budget).value if budget is not None else None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run the body as a part of the flow that calls it, in whose execution its calls count.

        Raises:
            UsageError: called outside a flow.
            ContextError: called inside a checkpoint.
        """
        if current() is None:
            raise UsageError(
                f"The flow {self.name} was called like a function.",
                help=f"Run it with {self.name}.run(…).wait(), or from a shell: kitaru run FILE.py",
            )
        in_body(f"the flow {self.name}")
        return self.function(*args, **kwargs)

    @overload
    def run(
        self: LocalFlow[P, Coroutine[Any, Any, S]], *args: P.args, **kwargs: P.kwargs
    ) -> Handle[S]: ...
    @overload
    def run(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R_co]: ...
    def run(self, *args: P.args, **kwargs: P.kwargs) -> Handle[Any]:
        """Start an execution with these inputs and return at once.

        `cache=`, `retries=`, `stack=` and `image=` that are not inputs of the flow are options, as
        `RunOptions` describes them.

        Raises:
            InputError: an input is missing, unknown or of the wrong type; nothing was started.
            UsageError: an option is wrong, or the stack has a target, where `.run` does not run.
            ContextError: called inside a flow.

        Example:
            handle = review_flow.run("kayaks")
            print(handle.wait())
        """
        # Checked first: during an import of the file, the stack or the inputs may be invalid.
        refuse_while_importing(f"{self.name}.run(…)", self.module)
        options: dict[str, Any] = {n: kwargs[n] for n in self._run_options & kwargs.keys()}
        if not options and self.stack is None:
            return Runner(self).run(*args, **kwargs)
        given: Any = {name: value for name, value in kwargs.items() if name not in options}
        _reference(options.get("image"))
        runner = Runner(
            self,
            store=_store_of(self, options.get("stack", self.stack)),
            cache=options.get("cache"),
            retries=options.get("retries"),
        )
        return runner.run(*args, **given)

    @cached_property
    def _run_options(self) -> frozenset[str]:
        code = self.function.__code__
        own = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        return frozenset(RunOptions.__annotations__.keys() - {*own})

    def options(
        self,
        *,
        store: str | Store | None = None,
        exec_id: str | None = None,
        key: str | None = None,
        cache: bool | None = None,
        retries: int | None = None,
        tags: Mapping[str, str | float] | None = None,
    ) -> Runner[P, R_co]:
        """Return a runner with other options. Call `.run(…)` on it.

        Args:
            store: URL of the store, such as `sqlite:PATH`. Default: as configured.
            exec_id: execution id. If it already exists with the same inputs, that execution is
                resumed.
            key: what identifies the start, such as `order-7`, instead of an id. The same key of a
                flow is the same execution: it is resumed, or its outcome is returned. If another
                process on this machine runs it, the handle waits for that process.
            cache: whether results of other executions may be reused. Default: as decorated.
            retries: default number of retries for checkpoints that set none. Default: as decorated.
            tags: tags of the execution by name, such as `{"customer": "acme"}`.

        Raises:
            UsageError: `exec_id` is not a valid execution id, `key` is empty or too long, both are
                passed, `retries` is not a valid number, or a tag is not valid.

        Example:
            review_flow.options(cache=False).run("kayaks")
        """
        return Runner(
            self, store=store, exec_id=exec_id, key=key, cache=cache, retries=retries, tags=tags
        )

    @overload
    def resume(
        self: LocalFlow[P, Coroutine[Any, Any, S]],
        exec_id: str,
        *,
        store: str | Store | None = None,
    ) -> Handle[S]: ...
    @overload
    def resume(self, exec_id: str, *, store: str | Store | None = None) -> Handle[R_co]: ...
    def resume(self, exec_id: str, *, store: str | Store | None = None) -> Handle[Any]:
        """Resume an execution of this flow. Recorded calls do not run again.

        Raises:
            NotFound: there is no such execution.
            StateError: it belongs to another flow, was cancelled, or is running in this process.
        """
        refuse_while_importing(f"{self.name}.resume(…)", self.module)
        return run_execution(self, self._own(exec_id, store), module=self.module)

    @overload
    def replay(
        self: LocalFlow[P, Coroutine[Any, Any, S]], exec_id: str, **options: Unpack[ReplayOptions]
    ) -> Handle[S]: ...
    @overload
    def replay(self, exec_id: str, **options: Unpack[ReplayOptions]) -> Handle[R_co]: ...
    def replay(
        self,
        exec_id: str,
        *,
        start: str = "",
        at_failure: bool = False,
        results: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Any] | None = None,
        models: Mapping[str, str] | None = None,
        reuse_unchanged: bool = False,
        store: str | Store | None = None,
    ) -> Handle[Any]:
        """Start a new execution that reuses the records before `start`, and run the rest again.

        Args:
            start: id or name of the first invocation to run again. Default: everything.
            at_failure: run again from the invocation that failed.
            results: results to inject, by invocation. They are returned for any arguments.
            inputs: inputs to change, as JSON by name.
            models: models to use instead of the configured ones, by alias.
            reuse_unchanged: reuse each result whose code and arguments are unchanged. Not with
                `start` or `at_failure`.

        Raises:
            NotFound: there is no such execution or invocation.
            StateError: it belongs to another flow, or `at_failure` is set and it did not fail.
            UsageError: a name matches several invocations, or a result cannot be injected.
            InputError: an input is unknown or does not match its annotation.

        Example:
            review_flow.replay(exec_id, start="draft", models={"fast": "openai/gpt-4o"}).wait()
        """
        from kitaru.runtime.executions.replay import Changes

        refuse_while_importing(f"{self.name}.replay(…)", self.module)
        changes = Changes(
            start, at_failure, results or {}, inputs or {}, models or {}, reuse_unchanged
        )
        return replay(self, self._own(exec_id, store), changes, module=self.module)

    def _start_deployed(self, store: Store, exec_id: str) -> RunningChild | None:
        """Start the run of a child that is an execution of a deployed version.

        Returns what runs on this machine, None if a service or a dispatcher starts it.
        """
        del store, exec_id
        return None

    def _own(self, exec_id: str, store: str | Store | None) -> Journal:
        journal = Journal.open(resolve_store(store), exec_id)
        if journal.execution.flow != self.name:
            raise StateError(
                f"The execution {exec_id} belongs to {journal.execution.flow}, not to {self.name}.",
                help=hints.get_help(journal),
            )
        return journal


class Runner(Generic[P, R_co]):
    """A flow together with the options of one run."""

    def __init__(
        self,
        flow: LocalFlow[P, R_co],
        *,
        store: str | Store | None = None,
        exec_id: str | None = None,
        key: str | None = None,
        cache: bool | None = None,
        retries: int | None = None,
        tags: Mapping[str, str | float] | None = None,
    ) -> None:
        self._flow = flow
        self._tags = check_tags(tags or {})
        self._store = store
        self._key = key
        self._exec_id = start_id(flow.name, exec_id, key)
        self._cache = cache
        self._retries = policy(".options", retries, None, None, None).retries

    @overload
    def run(
        self: Runner[P, Coroutine[Any, Any, S]], *args: P.args, **kwargs: P.kwargs
    ) -> Handle[S]: ...
    @overload
    def run(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R_co]: ...
    def run(self, *args: P.args, **kwargs: P.kwargs) -> Handle[Any]:
        """Start an execution; see `LocalFlow.run`."""
        refuse_while_importing(f"{self._flow.name}.run(…)", self._flow.module)
        return self._start(inputs.bind(self._flow.name, self._flow.function, args, kwargs))

    def start(self, given: Mapping[str, Any]) -> Handle[R_co]:
        """Start an execution with JSON inputs by name, turned into what the annotations say.

        Raises:
            InputError: an input is missing, unknown or does not fit its annotation.
        """
        refuse_while_importing(f"{self._flow.name}.run(…)", self._flow.module)
        return self._start(inputs.bind_json(self._flow.name, self._flow.function, given))

    def _start(self, bound: BoundArguments) -> Handle[R_co]:
        flow = self._flow
        if current() is not None:
            raise ContextError(
                f"The flow {flow.name} was run inside a flow: every replay would run it again.",
                help=f"Call it: {flow.name}(…) runs its body as a part of this execution.",
            )
        store, id = resolve_store(self._store), self._exec_id
        try:
            journal = create_execution(
                flow,
                store,
                bound,
                exec_id=id or new_execution_id(),
                cache=self._cache,
                retries=self._retries,
                tags=self._tags,
            )
        except StateError:
            if self._key is None:
                raise
            raise other_inputs(store, flow.name, self._key) from None

        def run() -> Handle[R_co]:
            return run_execution(flow, journal, fresh=id is None, module=flow.module)

        # A key may be started twice at the same time. The process that created the execution runs
        # the flow, and the others wait for it.
        is_first = self._key is None or journal.is_new or running_here(journal) is not None
        if is_first or processes.take_over(store, journal.exec_id):
            return run()
        return Handle(journal, None, otherwise=run)


def start_id(flow: str, exec_id: str | None, key: str | None) -> str | None:
    """Return the execution id that a start sets, None for a new id."""
    if key is None:
        return None if exec_id is None else check_execution_id(exec_id)
    if exec_id is not None:
        raise UsageError(
            "Both an execution id and a key were set.", help="Set one: each identifies the start."
        )
    return keyed_execution_id(flow, key)


def other_inputs(store: Store, flow: str, key: str) -> StateError:
    """Return the error for a key that has started an execution with other inputs."""
    exec_id = keyed_execution_id(flow, key)
    return StateError(
        f"The key {key!a} of {flow} has started {exec_id} with other inputs or tags. Nothing was "
        "started.",
        help=f"See it: {hints.command(store, 'executions', 'get', exec_id)}\n"
        "Use another key to start another execution.",
    )


def create_execution(
    flow: LocalFlow[Any, Any],
    store: Store,
    bound: BoundArguments,
    *,
    exec_id: str,
    mode: Mode = "local",
    parent: str = "",
    cache: bool | None = None,
    retries: int | None = None,
    tags: Mapping[str, str] | None = None,
) -> Journal:
    """Record an execution of a flow of this program, which `run_execution` then runs.

    Raises:
        InputError: an input cannot be recorded.
        StateError: the id belongs to an execution of another flow or with other inputs.
    """
    document = inputs.encode(flow.name, bound)
    record = ExecutionRecord(
        exec_id=exec_id,
        flow=flow.name,
        module=flow.module,
        file=flow.file,
        mode=mode,
        inputs=store_value(store, keys.home(exec_id), document, "inputs"),
        inputs_digest=canonical.digest(document),
        started_at=now(),
        kitaru_version=VERSION,
        cache=setting("cache", argument=cache, decorator=flow.cache).value,
        retries=retries,
        changes=declared_changes.declared(),
        code=fingerprint_function(flow.function),
        parent=parent,
        tags=dict(tags or {}),
        limits=_limits(flow, document),
        source=_source(flow, store),
    )
    return Journal.create(store, record)


def _source(flow: LocalFlow[Any, Any], store: Store, known: str = "") -> str:
    """Store the file of a flow for people; return its digest, empty if it is not stored."""
    if not setting("source").value:
        return ""
    redaction.register_names(secret_names())
    return flow._source.store_in(store, known)


def _limits(flow: LocalFlow[Any, Any], document: Any) -> dict[str, Any]:
    """Return what an execution with these inputs records of the flow's limits."""
    if flow.limits is None:
        return {}
    return flow.limits.of(flow.name, as_json(document)).to_json()


def run_execution(
    flow: LocalFlow[Any, R],
    journal: Journal,
    *,
    fresh: bool = False,
    cache: bool | None = None,
    module: str = "",
) -> Handle[R]:
    """Run an execution's body in this process, unless it has ended; what is recorded is replayed.

    `fresh` means that no process ran it before. `cache` overrides what the execution was started
    with. `module` is the flow's where a script calls, which is then told at its end what became of
    it.

    Raises:
        StateError: it was cancelled, or is running in this process already.
        InputError: the recorded inputs are not those of the flow any more.
    """
    end = None if fresh else journal.end()
    if end is not None:
        return handle_of_ended(journal, end)
    return Handle(journal, start_run(flow, journal, fresh=fresh, cache=cache, module=module))


def start_run(
    flow: LocalFlow[Any, Any],
    journal: Journal,
    *,
    fresh: bool = False,
    cache: bool | None = None,
    module: str = "",
) -> LocalRun:
    """Do what `run_execution` does for an execution that has not ended; return its run."""
    if not fresh or journal.execution.replay:
        recorded_inputs.check(flow.name, flow.function, _inputs(journal))
    preload.start(flow.function)

    def before_start(run: LocalRun) -> None:
        if not fresh or journal.execution.replay:
            journal.mark_running()
            journal.note_code(fingerprint_function(flow.function))
            if journal.execution.mode == "local":
                known = journal.execution.source
                journal.note_source(_source(flow, journal.store, known))
        if module:
            exit_report.watch(run, module)

    run = LocalRun(
        journal,
        lambda: _body(flow, journal),
        cache=journal.execution.cache if cache is None else cache,
        policy=_policy(flow, journal),
        attempted=not fresh,
        max_parallel=setting("max_parallel", decorator=flow.max_parallel).value,
        capture=flow.capture,
        budget=flow.budget,
        before_start=before_start,
        start_deployed=flow._start_deployed,
        admit=_admission(journal),
    )
    return run.start()


def _admission(journal: Journal) -> Callable[[LocalRun], bool] | None:
    """Return what lets a run wait for a place; None for a flow without limits."""
    if not journal.execution.limits:
        return None
    from kitaru.runtime.engine.local_places import admit
    from kitaru.wire.flow_limits import recorded_limits

    limits = recorded_limits(journal.execution)
    assert limits is not None
    return lambda run: admit(run, journal, limits, is_new=journal.is_new)


def replay(
    flow: LocalFlow[Any, R], source: Journal, changes: Changes, *, module: str = ""
) -> Handle[R]:
    """Begin a replay of an execution of `flow`, and run it in this process."""
    from kitaru.runtime.executions.replay import adopt

    recorded = recorded_inputs.restore(flow.name, flow.function, _inputs(source)).bound.arguments
    document = None
    if changes.inputs:
        document = inputs.changed(flow.name, flow.function, recorded, changes.inputs)
    file = _source(flow, source.store)
    replayed = adopt(source, changes, document, is_local=True, file=file)
    return run_execution(flow, replayed, fresh=True, module=module)


def handle_of_ended(journal: Journal, end: EndRecord) -> Handle[Any]:
    """Return the handle of an execution that has ended; raise StateError when it was cancelled."""
    if end.status == "completed":
        return Handle(journal, None)
    raise StateError(
        f"The execution {journal.exec_id} was cancelled; it cannot be resumed.",
        help=hints.new_help(journal),
    )


def _reference(image: Any) -> Any:
    """Return the image reference in an image setting, which may be a table of settings."""
    return image.as_settings("@flow(image=…)").get("image") if is_image(image) else image


def _store_of(flow: LocalFlow[Any, Any], stack: str | None) -> str | None:
    """Return the store of the stack that a run names, or None for the configured store."""
    check_option(".run", "stack", stack, str)
    if not stack:
        return None
    known = stacks()
    if stack not in known and stack not in ("default", "local"):
        names = ", ".join(sorted(known)) or "none"
        help = suggestion(stack, known, f"Stacks: {names}")
        raise UsageError(f"There is no stack {stack!r}.", help=help)
    settings = known.get(stack, {})
    if settings.get("target", "local") != "local":
        raise UsageError(
            f"The stack {stack} runs on {settings['target']}, and .run(…) runs in this process.",
            help=f"kitaru deploy {flow.file or 'FILE.py'}:{flow.name} --stack {stack}",
        )
    store: str | None = settings.get("store")
    return store


def _body(flow: LocalFlow[Any, Any], journal: Journal) -> Any:
    return recorded_inputs.call(flow.name, flow.function, _inputs(journal))


def _inputs(journal: Journal) -> dict[str, Any]:
    values: dict[str, Any] = codec.decode(journal.fetch(journal.execution.inputs))
    return values


def _policy(flow: LocalFlow[Any, Any], journal: Journal) -> Policy:
    said = setting("retries", argument=journal.execution.retries, decorator=flow.policy.retries)
    return replace(flow.policy, retries=said.value)


def _check_function(function: Callable[..., Any]) -> None:
    code = getattr(function, "__code__", None)
    if code is None:
        raise UsageError(f"@flow is for functions, not for {function!r}.")
    if code.co_flags & _GENERATOR:
        raise UsageError(
            f"The flow {function.__name__} is a generator.",
            help="Return the values as a list: a flow is a function (`def` or `async def`) without "
            "`yield`.",
        )


def _check_schedule(
    schedule: Any, timezone: Any, overlap: Any, catchup: Any, schedule_by: Any
) -> None:
    # The compiler reads the cron expression and the zone. An execution does not depend on them.
    check_option("@flow", "schedule", schedule, str)
    check_option("@flow", "timezone", timezone, str)
    if (overlap, catchup, schedule_by) != (None, None, None):
        from kitaru.wire.cron import check_catchup, check_overlap, check_schedule_by

        check_overlap("skip" if overlap is None else overlap)
        check_catchup("last" if catchup is None else catchup)
        check_schedule_by("dispatcher" if schedule_by is None else schedule_by)


def _file(function: Callable[..., Any], module: str) -> str:
    if module == SCRIPT:
        return ""
    file = file_of(module) or Path(undecorated(function).__code__.co_filename).resolve()
    return str(file)
