"""Decides what `@flow` makes of a function: something to run, durably, under an execution id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from kitaru.config import setting
from kitaru.errors import ContextError, StateError, UsageError
from kitaru.handle import Handle
from kitaru.runtime import codec
from kitaru.runtime.llm.capture import Capture, check_capture
from kitaru.runtime.recording import commands
from kitaru.runtime.recording.journal import Journal
from kitaru.runtime.recording.values import store_value
from kitaru.runtime.running import context, inputs
from kitaru.runtime.running.local import LocalRun
from kitaru.runtime.running.retries import Policy, RetryOn, policy
from kitaru.stores import open_store
from kitaru.version import VERSION
from kitaru.wire import canonical, keys
from kitaru.wire.ids import check_execution_id, new_execution_id
from kitaru.wire.modules import recorded_name
from kitaru.wire.names import check_name
from kitaru.wire.records import EndRecord, ExecutionRecord
from kitaru.wire.structs import replace
from kitaru.wire.times import now

if TYPE_CHECKING:
    from inspect import BoundArguments

    from kitaru.runtime.executions.adoption import Changes
    from kitaru.stores.base import Store

P = ParamSpec("P")
R = TypeVar("R")

_COROUTINE, _GENERATOR = 0x80, 0x20 | 0x200

__all__ = ["Flow", "Handle", "Runner", "flow"]


class Flow(Generic[P, R]):
    """A flow: run it with `.run(…)`; made by `@flow`.

    `name` is what executions call it, `function` the decorated function.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        cache: bool | None = None,
        retries: int | None = None,
        retry_delay: float = 0,
        backoff: float = 2,
        retry_on: RetryOn = Exception,
        max_parallel: int | None = None,
        capture: Capture | None = None,
        image: str | None = None,
    ) -> None:
        _check_synchronous(function)
        update_wrapper(self, function)
        self.function = function
        self.name = check_name("flow", name or function.__name__)
        self.cache = cache
        self.policy = policy("@flow", retries, retry_delay, backoff, retry_on)
        for option, value in (("max_parallel", max_parallel), ("image", image)):
            if value is not None:
                setting(option, decorator=value)
        self.max_parallel = max_parallel
        self.capture = check_capture("@flow", capture)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the body as a part of the flow that calls it, in whose execution its calls count.

        Raises:
            UsageError: called outside a flow.
            ContextError: called inside a checkpoint.
        """
        if context.current() is None:
            raise UsageError(
                f"The flow {self.name} was called like a function.",
                help=f"Run it with {self.name}.run(…).wait(), or from a shell: kitaru run FILE.py",
            )
        context.in_body(f"the flow {self.name}")
        return self.function(*args, **kwargs)

    def run(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Start an execution with these inputs and return at once.

        Raises:
            InputError: an input is missing, unknown or of the wrong type; nothing was started.
            ContextError: called inside a flow.

        Example:
            handle = review_flow.run("kayaks")
            print(handle.wait())
        """
        return Runner(self).run(*args, **kwargs)

    def options(
        self,
        *,
        store: str | Store | None = None,
        exec_id: str | None = None,
        cache: bool | None = None,
        retries: int | None = None,
    ) -> Runner[P, R]:
        """Return something to `.run(…)` that does so in another way.

        Args:
            store: where the journal lies, `sqlite:PATH` for example; default as configured.
            exec_id: the execution's id; one that exists, with equal inputs, is gone on with.
            cache: whether results of other executions may be used; default as decorated.
            retries: how often a checkpoint that does not say itself is tried again; default as
                decorated.

        Raises:
            UsageError: `exec_id` is no execution id, or `retries` no number of attempts.

        Example:
            review_flow.options(cache=False).run("kayaks")
        """
        return Runner(self, store=store, exec_id=exec_id, cache=cache, retries=retries)

    def resume(self, exec_id: str, *, store: str | Store | None = None) -> Handle[R]:
        """Go on with an execution of this flow: what is recorded does not run again.

        Raises:
            NotFound: there is no such execution.
            StateError: it belongs to another flow, was cancelled, or is running in this process.
        """
        return go_on(self, self._own(exec_id, store))

    def replay(
        self,
        exec_id: str,
        *,
        start: str = "",
        at_failure: bool = False,
        results: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Any] | None = None,
        models: Mapping[str, str] | None = None,
        store: str | Store | None = None,
    ) -> Handle[R]:
        """Begin a new execution that takes over what precedes `start`, and runs the rest again.

        Args:
            start: the invocation, by id or name, to run again from; default the first one.
            at_failure: run again from the invocation that failed.
            results: by invocation, what it shall have returned, however it is called now.
            inputs: inputs to change, as JSON by name.
            models: by alias, the model to ask instead of the one that is configured.

        Raises:
            NotFound: there is no such execution or invocation.
            StateError: it belongs to another flow, or is to be replayed at a failure it had not.
            UsageError: a name stands for several invocations, or a result cannot be given.
            InputError: an input is unknown or does not fit its annotation.

        Example:
            review_flow.replay(exec_id, start="draft", models={"fast": "openai/gpt-4o"}).wait()
        """
        from kitaru.runtime.executions.adoption import Changes

        changes = Changes(start, at_failure, results or {}, inputs or {}, models or {})
        return replay(self, self._own(exec_id, store), changes)

    def _own(self, exec_id: str, store: str | Store | None) -> Journal:
        journal = Journal.open(opened(store), exec_id)
        if journal.execution.flow != self.name:
            raise StateError(
                f"The execution {exec_id} is one of {journal.execution.flow}, not of {self.name}.",
                help=commands.get_help(journal),
            )
        return journal


class Runner(Generic[P, R]):
    """A flow together with the options of one run."""

    def __init__(
        self,
        flow: Flow[P, R],
        *,
        store: str | Store | None = None,
        exec_id: str | None = None,
        cache: bool | None = None,
        retries: int | None = None,
    ) -> None:
        self._flow = flow
        self._store = store
        self._exec_id = None if exec_id is None else check_execution_id(exec_id)
        self._cache = cache
        self._retries = policy(".options", retries, None, None, None).retries

    def run(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Start an execution; see `Flow.run`."""
        return self._start(inputs.bind(self._flow.name, self._flow.function, args, kwargs))

    def start(self, given: Mapping[str, Any]) -> Handle[R]:
        """Start an execution with JSON inputs by name, turned into what the annotations say.

        Raises:
            InputError: an input is missing, unknown or does not fit its annotation.
        """
        return self._start(inputs.bind_json(self._flow.name, self._flow.function, given))

    def _start(self, bound: BoundArguments) -> Handle[R]:
        flow = self._flow
        if context.current() is not None:
            raise ContextError(
                f"The flow {flow.name} was run inside a flow: every replay would run it again.",
                help=f"Call it: {flow.name}(…) runs its body as a part of this execution.",
            )
        store = opened(self._store)
        exec_id = self._exec_id or new_execution_id()
        document = inputs.encode(flow.name, bound)
        record = ExecutionRecord(
            exec_id=exec_id,
            flow=flow.name,
            module=recorded_name(flow.function.__module__),
            file=_file(flow.function),
            mode="local",
            inputs=store_value(store, keys.home(exec_id), document, "inputs"),
            inputs_digest=canonical.digest(document),
            started_at=now(),
            kitaru_version=VERSION,
            cache=setting("cache", argument=self._cache, decorator=flow.cache).value,
            retries=self._retries,
        )
        journal = Journal.create(store, record)
        return go_on(flow, journal, fresh=self._exec_id is None)


def go_on(
    flow: Flow[Any, R], journal: Journal, *, fresh: bool = False, cache: bool | None = None
) -> Handle[R]:
    """Run an execution's body in this process, unless it has ended; what is recorded is replayed.

    `fresh` says that no process ran it before. `cache` overrides what the execution was begun with.

    Raises:
        StateError: it was cancelled, or is running in this process already.
    """
    end = None if fresh else journal.end()
    if end is not None:
        return ended(journal, end)
    run = LocalRun(
        journal,
        lambda: _body(flow, journal),
        cache=journal.execution.cache if cache is None else cache,
        policy=_policy(flow, journal),
        attempted=not fresh,
        max_parallel=setting("max_parallel", decorator=flow.max_parallel).value,
        capture=flow.capture,
    )
    if not fresh or journal.execution.replay:
        journal.go_on()
    return Handle(journal, run.start())


def replay(flow: Flow[Any, R], source: Journal, changes: Changes) -> Handle[R]:
    """Begin a replay of an execution of `flow`, and run it in this process."""
    from kitaru.runtime.executions.adoption import adopt

    document = None
    if changes.inputs:
        recorded = codec.decode(source.fetch(source.execution.inputs))
        document = inputs.changed(flow.name, flow.function, recorded, changes.inputs)
    return go_on(flow, adopt(source, changes, document), fresh=True)


def ended(journal: Journal, end: EndRecord) -> Handle[Any]:
    """Return the handle of an execution that has ended; raise StateError when it was cancelled."""
    if end.status == "completed":
        return Handle(journal, None)
    raise StateError(
        f"The execution {journal.exec_id} was cancelled; it cannot go on.",
        help=commands.new_help(journal),
    )


def opened(store: str | Store | None) -> Store:
    """Return the store that is meant; `None` for the configured one."""
    if store is None or isinstance(store, str):
        return open_store(setting("store", argument=store).value)
    return store


def _body(flow: Flow[Any, Any], journal: Journal) -> Any:
    values = codec.decode(journal.fetch(journal.execution.inputs))
    return inputs.call(flow.function, values)


def _policy(flow: Flow[Any, Any], journal: Journal) -> Policy:
    said = setting("retries", argument=journal.execution.retries, decorator=flow.policy.retries)
    return replace(flow.policy, retries=said.value)


def _check_synchronous(function: Callable[..., Any]) -> None:
    code = getattr(function, "__code__", None)
    if code is None:
        raise UsageError(f"@flow is for functions, not for {function!r}.")
    if code.co_flags & (_COROUTINE | _GENERATOR):
        kind = "async" if code.co_flags & _COROUTINE else "a generator"
        raise UsageError(
            f"The flow {function.__name__} is {kind}.",
            help="Make it an ordinary function (`def`, no `yield`); checkpoints may be async, and "
            "run beside each other with .submit(…) and .map(…).",
        )


def _file(function: Callable[..., Any]) -> str:
    return str(Path(function.__code__.co_filename).resolve())


@overload
def flow(function: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(
    *,
    name: str | None = None,
    cache: bool | None = None,
    retries: int | None = None,
    retry_delay: float = 0,
    backoff: float = 2,
    retry_on: RetryOn = Exception,
    max_parallel: int | None = None,
    capture: Capture | None = None,
    image: str | None = None,
) -> Callable[[Callable[P, R]], Flow[P, R]]: ...
def flow(
    function: Callable[P, R] | None = None, /, **options: Any
) -> Flow[P, R] | Callable[[Callable[P, R]], Flow[P, R]]:
    """Make a function a flow; used as `@flow` or `@flow(…)`.

    Args:
        name: what executions call it; default the function's name.
        cache: whether its checkpoints may use results of other executions; default true.
        retries, retry_delay, backoff, retry_on: for checkpoints that do not say themselves, as
            `@checkpoint` takes them; default as configured (0 retries), without delay, doubling,
            any exception.
        max_parallel: how many submitted calls run at the same time, as threads or as nodes; default
            as configured (8).
        capture: what is kept of model calls where neither the call nor its checkpoint says:
            `full`, `metadata` (no texts) or `off`; default as configured, which is `full`.
        image: the container image of its steps, written out; default as configured.

    Raises:
        UsageError: the function is async or a generator, or an option is wrong.

    Example:
        @flow
        def review_flow(topic: str) -> str:
            return draft(research(topic))
    """
    if function is not None:
        return Flow(function)
    return lambda f: Flow(f, **options)
