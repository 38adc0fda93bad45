"""The `@checkpoint` decorator: functions whose results are recorded once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import cached_property, update_wrapper
from itertools import product
from types import MethodType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from kitaru.errors import UsageError
from kitaru.runtime.engine import event_loop
from kitaru.runtime.engine.calls import Spec, callee_name
from kitaru.runtime.engine.execution import current, in_body
from kitaru.runtime.engine.futures import Future, Futures, resolve_futures
from kitaru.runtime.engine.options import check_option
from kitaru.runtime.engine.places import running_loop
from kitaru.runtime.engine.retries import RetryOn, policy
from kitaru.runtime.llm import preload
from kitaru.runtime.llm.model_calls import Capture, check_capture
from kitaru.runtime.llm.models import same_models
from kitaru.wire.fingerprint import fingerprint_function
from kitaru.wire.modules import is_async, undecorated
from kitaru.wire.names import check_name

if TYPE_CHECKING:
    from inspect import Signature

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
Runtime = Literal["inline", "isolated"]

_ANY_KEYWORD = 0x08
_GRACE_SECONDS = 0.1


class CheckpointOptions(TypedDict, total=False):
    """The options of `@checkpoint`; `checkpoint` documents each."""

    name: str | None
    retries: int | None
    retry_delay: float | None
    backoff: float | None
    retry_on: RetryOn | None
    timeout: float | None
    cache: bool | None
    depends_on: Sequence[str]
    runtime: Runtime | None
    cpu: str | float | None
    memory: str | None
    gpu: int | None
    capture: Capture | None
    pickle: bool
    type: str | None


class CallOptions(TypedDict, total=False):
    """What the call of a checkpoint takes beside the arguments of its function.

    A parameter of the function with that name wins, and so do its `**parameters`: they take any
    keyword. `after` is a future, or a list of some, that
    must have ended well before the call starts; its value is not used.
    """

    id: str | None
    after: Any


class Checkpoint(Generic[P, R_co]):
    """A checkpoint: call it in a flow's body; made by `@checkpoint`.

    Called with `id="…"` the invocation has that id, unless the function takes an `id` itself, by
    name or in its `**parameters`; then only `name` names its invocations.
    Called with `after=future`, or a list of futures, it starts when these have ended. A future
    among the arguments, or directly in a list, tuple or dict of them, passes its value. `name`
    is what invocations are called after, `function` the decorated function.
    """

    def __init__(
        self,
        function: Callable[P, R_co],
        *,
        name: str | None = None,
        retries: int | None = None,
        retry_delay: float | None = None,
        backoff: float | None = None,
        retry_on: RetryOn | None = None,
        timeout: float | None = None,
        cache: bool | None = None,
        depends_on: Sequence[str] = (),
        runtime: Runtime | None = None,
        cpu: str | float | None = None,
        memory: str | None = None,
        gpu: int | None = None,
        capture: Capture | None = None,
        pickle: bool = False,
        type: str | None = None,
    ) -> None:
        for option, value, types in (
            ("name", name, (str,)),
            ("type", type, (str,)),
            ("cache", cache, (bool,)),
            ("cpu", cpu, (str, int, float)),
            ("memory", memory, (str,)),
            ("gpu", gpu, (int,)),
        ):
            check_option("@checkpoint", option, value, *types)
        _check_function(function)
        update_wrapper(self, function)
        self.function = function
        self._callee = callee_name(function)
        self.name = check_name("checkpoint", name or function.__name__)
        self.policy = policy("@checkpoint", retries, retry_delay, backoff, retry_on, timeout)
        self.cache = cache is not False
        self.depends_on = _check_depends_on(depends_on)
        self.runtime = _check_runtime(runtime)
        self.cpu, self.memory, self.gpu = cpu, memory, gpu or 0
        self.capture = check_capture("@checkpoint", capture)
        self.pickle = _check_pickle(pickle)
        self.type = type
        if is_async(function):
            # With these attributes `inspect.iscoroutinefunction` is true, as for the function.
            self.__code__ = function.__code__
            self.__defaults__ = function.__defaults__
            self.__kwdefaults__ = function.__kwdefaults__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return the recorded result. The function runs only if no result is recorded.

        On a running event loop, an async checkpoint returns a coroutine, to be awaited.

        Raises:
            ContextError: called outside a flow's body.
            Exception: what the function raised in its last attempt.
            ValueNotEncodable: its result cannot be recorded.
            ArgumentChanged: it changed one of its arguments.
        """
        execution = in_body(f"The checkpoint {self.name}")
        if self.spec.coroutine is not None and running_loop() is not None:
            # A loop runs, so asyncio is imported.
            from kitaru.runtime.engine import awaited_calls

            given, id, after = self._split(kwargs)
            return awaited_calls.call(execution, self.spec, args, given, id, after)  # type: ignore[return-value]
        given, id = self._split_blocking(kwargs)
        return execution.invoke(self.spec, resolve_futures(args), resolve_futures(given), id)  # type: ignore[no-any-return]

    @overload
    def submit(
        self: Checkpoint[P, Coroutine[Any, Any, S]], *args: P.args, **kwargs: P.kwargs
    ) -> Future[S]: ...
    @overload
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Future[R_co]: ...
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Future[Any]:
        """Start the checkpoint beside the flow's body and return its future.

        Example:
            future = research.submit("kayaks")
            brief = future.result()
        """
        if self._is_classmethod:
            raise UsageError(
                f"The class is lost in {self.function.__qualname__}.submit and its map: since "
                "Python 3.13, @classmethod does not pass it to attributes of a checkpoint.",
                help="Call it without submit, or write a function with @checkpoint that takes the "
                "class as an argument.",
            )
        return self._submit(*args, **kwargs)

    def _submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        execution = in_body(f"The checkpoint {self.name}")
        given, id = self._split_blocking(kwargs)
        return execution.submit(self.spec, resolve_futures(args), resolve_futures(given), id)

    def promise(self, *args: Any, **kwargs: Any) -> Any:
        """Return an awaitable of a call that runs when it is awaited, or in a node of its own.

        Used by the generated code of async flows: it is the call of an async checkpoint that may
        cross into another process.
        """
        execution = in_body(f"The checkpoint {self.name}")
        # A loop runs, so asyncio is imported.
        from kitaru.runtime.engine import awaited_calls

        given, id, after = self._split(kwargs)
        return awaited_calls.promise(execution, self.spec, args, given, id, after)

    @overload
    def map(
        self: Checkpoint[P, Coroutine[Any, Any, S]], *iterables: Iterable[Any], **common: Any
    ) -> Futures[S]: ...
    @overload
    def map(self, *iterables: Iterable[Any], **common: Any) -> Futures[R_co]: ...
    def map(self, *iterables: Iterable[Any], **common: Any) -> Futures[Any]:
        """Submit one call per item, of several iterables like `zip`; results keep the order.

        Keyword arguments go to every call.

        Example:
            texts = draft.map(topics, style="short").result()
        """
        return _submit_all(self.submit, zip(*iterables, strict=False), common)

    @overload
    def product(
        self: Checkpoint[P, Coroutine[Any, Any, S]], *iterables: Iterable[Any], **common: Any
    ) -> Futures[S]: ...
    @overload
    def product(self, *iterables: Iterable[Any], **common: Any) -> Futures[R_co]: ...
    def product(self, *iterables: Iterable[Any], **common: Any) -> Futures[Any]:
        """Submit one call per combination, the last iterable varying fastest."""
        return _submit_all(self.submit, product(*iterables), common)

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Checkpoint[P, R_co]: ...
    @overload
    def __get__(
        self: Checkpoint[Concatenate[S, Q], R_co], instance: S, owner: type | None = None
    ) -> BoundCheckpoint[Q, R_co]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Return the checkpoint of an object whose class has it as a method."""
        return self if instance is None else BoundCheckpoint(self, instance)

    def _split_blocking(self, kwargs: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
        """Return the function's own arguments and the id; wait for the calls in `after`."""
        given, id, after = self._split(kwargs)
        resolve_futures((after,))
        return given, id

    def _split(self, kwargs: dict[str, Any]) -> tuple[dict[str, Any], str | None, Any]:
        """Return the function's own arguments, the id and what to wait for."""
        options = {name: kwargs[name] for name in self._options & kwargs.keys()}
        if not options:
            return kwargs, None, None
        rest = {name: value for name, value in kwargs.items() if name not in options}
        return rest, options.get("id"), options.get("after")

    @cached_property
    def _options(self) -> frozenset[str]:
        """The call options that are not parameters of the function."""
        # A decorator in between accepts any keyword, and passes it to the wrapped function.
        function = undecorated(self.function)
        code = getattr(function, "__code__", self.function.__code__)
        if code.co_flags & _ANY_KEYWORD:
            return frozenset()
        own = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        return frozenset(CallOptions.__annotations__.keys() - {*own})

    @cached_property
    def _is_classmethod(self) -> bool:
        """Whether `@classmethod` is above `@checkpoint`.

        Until Python 3.12, it binds the checkpoint, and `submit` is that of the bound one. Since
        3.13, `Agent.draft.submit` is `submit` of the plain checkpoint.
        """
        *outer, name = self.function.__qualname__.split(".")
        if "<locals>" in outer:
            return self.function.__code__.co_varnames[:1] == ("cls",)
        owner: Any = sys.modules.get(self.function.__module__)
        for part in outer:
            owner = getattr(owner, part, None)
        return isinstance(getattr(owner, "__dict__", {}).get(name), classmethod)

    @cached_property
    def spec(self) -> Spec:
        """What the engine must know of it."""
        return Spec(
            name=self.name,
            function=_synchronous(self.function, self.policy.timeout),
            callee=self._callee,
            policy=self.policy,
            cache=self.cache,
            depends_on=self.depends_on,
            fingerprint=lambda: self._fingerprint,
            capture=self.capture,
            pickle=self.pickle,
            is_valid=same_models,
            prepare=preload.finish,
            coroutine=self.function if is_async(self.function) else None,
        )

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint_function(self.function)


class BoundCheckpoint(Generic[P, R_co]):
    """A checkpoint that is a method, on one object: what a function has, it has as well.

    Its other attributes, `name` or `retries` for example, are those of the checkpoint. The object
    is an argument of each call: it is recorded as such, and copied into each step.

    Example:
        agent = Agent("plain")
        texts = agent.draft.map(topics).result()
    """

    def __init__(self, checkpoint: Checkpoint[Any, R_co], instance: Any) -> None:
        self.__func__ = checkpoint
        self.__self__ = instance
        self.__name__: str = checkpoint.function.__name__
        self.__doc__ = checkpoint.function.__doc__

    @property
    def __signature__(self) -> Signature:
        """The parameters of the function without the one for the object."""
        from inspect import signature

        return signature(MethodType(self.__func__.function, self.__self__))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return the recorded result; see `Checkpoint.__call__`."""
        return self.__func__(self.__self__, *args, **kwargs)

    @overload
    def submit(
        self: BoundCheckpoint[P, Coroutine[Any, Any, S]], *args: P.args, **kwargs: P.kwargs
    ) -> Future[S]: ...
    @overload
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Future[R_co]: ...
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Future[Any]:
        """Start the checkpoint beside the flow's body and return its future."""
        return self.__func__._submit(self.__self__, *args, **kwargs)

    def promise(self, *args: Any, **kwargs: Any) -> Any:
        """Return an awaitable of a call; see `Checkpoint.promise`."""
        return self.__func__.promise(self.__self__, *args, **kwargs)

    @overload
    def map(
        self: BoundCheckpoint[P, Coroutine[Any, Any, S]], *iterables: Iterable[Any], **common: Any
    ) -> Futures[S]: ...
    @overload
    def map(self, *iterables: Iterable[Any], **common: Any) -> Futures[R_co]: ...
    def map(self, *iterables: Iterable[Any], **common: Any) -> Futures[Any]:
        """Submit one call per item, of several iterables like `zip`; see `Checkpoint.map`."""
        return _submit_all(self.submit, zip(*iterables, strict=False), common)

    @overload
    def product(
        self: BoundCheckpoint[P, Coroutine[Any, Any, S]], *iterables: Iterable[Any], **common: Any
    ) -> Futures[S]: ...
    @overload
    def product(self, *iterables: Iterable[Any], **common: Any) -> Futures[R_co]: ...
    def product(self, *iterables: Iterable[Any], **common: Any) -> Futures[Any]:
        """Submit one call per combination, the last iterable varying fastest."""
        return _submit_all(self.submit, product(*iterables), common)

    def __getattr__(self, name: str) -> Any:
        # An incomplete copy has no attributes yet, and `copy` looks up names with underscores.
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.__func__, name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BoundCheckpoint):
            return NotImplemented
        return self.__func__ is other.__func__ and self.__self__ is other.__self__

    def __hash__(self) -> int:
        return hash((id(self.__func__), id(self.__self__)))


def _submit_all(
    submit: Callable[..., Future[R]], calls: Iterable[tuple[Any, ...]], common: dict[str, Any]
) -> Futures[R]:
    return Futures(tuple(submit(*args, **common) for args in calls))


def _check_function(function: Any) -> None:
    """Reject a callable without code: records and cache keys identify a function by its code."""
    if hasattr(function, "__code__") and not isinstance(function, Checkpoint):
        return
    kind = "checkpoint" if isinstance(function, Checkpoint) else _type_name(function)
    help = (
        "Write a function that calls it:\n    @checkpoint\n    def name(x):\n        return it(x)"
    )
    if isinstance(function, Checkpoint):
        help = "Decorate it once."
    elif isinstance(function, staticmethod | classmethod):
        help = f"Write @{kind} above @checkpoint."
    raise UsageError(f"@checkpoint takes a function made by def, not this {kind}.", help=help)


def _type_name(function: Any) -> str:
    kind = type(function)
    return "class" if issubclass(kind, type) else kind.__qualname__


def _check_runtime(runtime: Runtime | None) -> Runtime | None:
    if runtime not in (None, "inline", "isolated"):
        raise UsageError(
            f"runtime={runtime!r} is not a valid runtime of a checkpoint.",
            help='Use runtime="inline" (never a step of its own) or "isolated" (always one).',
        )
    return runtime


def _check_depends_on(depends_on: Sequence[str]) -> tuple[str, ...]:
    known = isinstance(depends_on, list | tuple)
    if not known or not all(isinstance(one, str) and one for one in depends_on):
        raise UsageError(
            f"depends_on={depends_on!r} is not a list of files and variables.",
            help='Use depends_on=["prompts/**/*.md", "env:AGENT_MODEL"].',
        )
    return tuple(depends_on)


def _check_pickle(pickle: bool) -> bool:
    if type(pickle) is not bool:
        raise UsageError(
            f"pickle={pickle!r} is not a boolean.",
            help="Use pickle=True, or omit it.",
        )
    return pickle


def _synchronous(function: Callable[..., Any], timeout: float | None) -> Callable[..., Any]:
    if not is_async(function):
        return function

    async def cancelled_in_time(*args: Any, **kwargs: Any) -> Any:
        # This runs in the loop's own thread, so asyncio is already imported.
        import asyncio

        # Later than the timeout of the attempt, so that the attempt's own error is raised.
        async with asyncio.timeout(None if timeout is None else timeout + _GRACE_SECONDS):
            return await function(*args, **kwargs)

    def run(*args: Any, **kwargs: Any) -> Any:
        scope = current()
        own = None if scope is None else scope.execution.loop
        run_on = event_loop.run if own is None else own.call
        return run_on(lambda: cancelled_in_time(*args, **kwargs))

    return update_wrapper(run, function)


@overload
def checkpoint(function: Callable[P, R], /) -> Checkpoint[P, R]: ...
@overload
def checkpoint(
    **options: Unpack[CheckpointOptions],
) -> Callable[[Callable[P, R]], Checkpoint[P, R]]: ...
def checkpoint(
    function: Callable[P, R] | None = None, /, **options: Unpack[CheckpointOptions]
) -> Checkpoint[P, R] | Callable[[Callable[P, R]], Checkpoint[P, R]]:
    """Turn a function into a checkpoint. Use it as `@checkpoint` or `@checkpoint(…)`.

    Args:
        name: name of its invocations. Default: the function's name.
        retries: number of attempts after the first, if it raises. Default: the flow's, which is 0.
        retry_delay: seconds before the first retry. Default: the flow's, which is 0.
        backoff: factor by which each further pause grows, up to an hour. Default: the flow's, which
            is 2. Each pause is shortened at random by up to half.
        retry_on: exception class, or tuple of classes, to retry. Default: the flow's, which is
            `Exception`.
        timeout: maximum seconds for one attempt, which then fails with
            `kitaru.errors.CheckpointTimeout`. Default: no limit. An async function is cancelled. A
            thread cannot be stopped: any other function continues in its thread, on copies of its
            arguments, until it returns or the process ends. Its result or exception is dropped.
        cache: false to never reuse a result of another execution. Default: the setting `cache`,
            which is off.
        depends_on: inputs of its code besides arguments and globals, for the cache: patterns of
            files from the working directory, and variables as `env:NAME`. Without it, code that
            reads files or the environment is not cached.
        runtime: `inline` to never make it a pipeline step, `isolated` to always make it one.
        cpu, memory, gpu: resources of its step, such as `0.5`, `"4Gi"` and a number of GPUs.
        capture: what is recorded of its model calls: `full`, `metadata` (no texts) or `off`.
            Default: the flow's.
        pickle: whether parts of its result without an exact form may be pickled. Default: false.
            Loading a pickle runs code. Only this flow's own processes load it, and `kitaru.load` in
            a checkpoint with the same option.
        type: label for people, such as `llm_call`. It has no effect.

    Raises:
        UsageError: an option is wrong, or the object is not a function made by `def`: a
            `functools.partial`, an `lru_cache`, a builtin, a class or a callable object.

    Example:
        @checkpoint(retries=2, retry_delay=5, retry_on=ConnectionError, timeout=60)
        def research(topic: str) -> str:
            return kitaru.llm(f"Research: {topic}.")
    """
    if function is not None:
        return Checkpoint(function, **options)
    return lambda f: Checkpoint(f, **options)
