"""Decides what `@checkpoint` makes of a function: calls whose results are recorded once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property, update_wrapper
from itertools import product
from typing import Any, Generic, Literal, ParamSpec, TypeVar, overload

from kitaru.errors import UsageError
from kitaru.runtime.llm.capture import Capture, check_capture
from kitaru.runtime.running import context
from kitaru.runtime.running.calls import Spec, callee_name
from kitaru.runtime.running.futures import Future, Futures, values_of
from kitaru.runtime.running.retries import RetryOn, policy
from kitaru.wire.fingerprint import fingerprint_function
from kitaru.wire.names import check_name

P = ParamSpec("P")
R = TypeVar("R")
Runtime = Literal["inline", "isolated"]

_COROUTINE = 0x80
_GRACE_SECONDS = 0.1


class Checkpoint(Generic[P, R]):
    """A checkpoint: call it in a flow's body; made by `@checkpoint`.

    Called with `id="…"` the invocation has that id, unless the function takes an `id` itself. A
    future among the arguments, or directly in a list, tuple or dict of them, passes its value.
    `name` is what invocations are called after, `function` the decorated function.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        retries: int | None = None,
        retry_delay: float | None = None,
        backoff: float | None = None,
        retry_on: RetryOn | None = None,
        timeout: float | None = None,
        cache: bool = True,
        runtime: Runtime | None = None,
        cpu: str | float | None = None,
        memory: str | None = None,
        gpu: int = 0,
        capture: Capture | None = None,
        pickle: bool = False,
    ) -> None:
        update_wrapper(self, function)
        self.function = function
        self.name = check_name("checkpoint", name or function.__name__)
        self.policy = policy("@checkpoint", retries, retry_delay, backoff, retry_on, timeout)
        self.cache = cache
        self.runtime = _check_runtime(runtime)
        self.cpu, self.memory, self.gpu = cpu, memory, gpu
        self.capture = check_capture("@checkpoint", capture)
        self.pickle = _check_pickle(pickle)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the recorded result; the function runs only when there is none.

        Raises:
            ContextError: called outside a flow's body.
            Exception: what the function raised in its last attempt.
            ValueNotEncodable: its result cannot be recorded.
            ArgumentChanged: it changed one of its arguments.
        """
        execution = context.in_body(f"The checkpoint {self.name}")
        given, id = self._split(kwargs)
        return execution.invoke(self.spec, values_of(args), values_of(given), id)  # type: ignore[no-any-return]

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Start the checkpoint beside the flow's body and return its future.

        Example:
            future = research.submit("kayaks")
            brief = future.result()
        """
        execution = context.in_body(f"The checkpoint {self.name}")
        given, id = self._split(kwargs)
        return execution.submit(self.spec, values_of(args), values_of(given), id)

    def map(self, *iterables: Iterable[Any], **common: Any) -> Futures[R]:
        """Submit one call per item, of several iterables like `zip`; results keep the order.

        Keyword arguments go to every call.

        Example:
            texts = draft.map(topics, style="short").result()
        """
        return self._submit_all(zip(*iterables, strict=False), common)

    def product(self, *iterables: Iterable[Any], **common: Any) -> Futures[R]:
        """Submit one call per combination, the last iterable varying fastest."""
        return self._submit_all(product(*iterables), common)

    def _submit_all(self, calls: Iterable[tuple[Any, ...]], common: dict[str, Any]) -> Futures[R]:
        submit: Callable[..., Future[R]] = self.submit
        return Futures(tuple(submit(*args, **common) for args in calls))

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else _Bound(self, instance)

    def _split(self, kwargs: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
        if "id" not in kwargs or self._takes_id:
            return kwargs, None
        rest = dict(kwargs)
        return rest, rest.pop("id")

    @cached_property
    def _takes_id(self) -> bool:
        code = self.function.__code__
        return "id" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]

    @cached_property
    def spec(self) -> Spec:
        """What the engine must know of it."""
        return Spec(
            name=self.name,
            function=_synchronous(self.function, self.policy.timeout),
            callee=callee_name(self.function),
            policy=self.policy,
            cache=self.cache,
            fingerprint=lambda: self._fingerprint,
            capture=self.capture,
            pickle=self.pickle,
        )

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint_function(self.function)


class _Bound:
    """A checkpoint that is a method, with the object it is called on."""

    def __init__(self, checkpoint: Checkpoint[Any, Any], instance: Any) -> None:
        self._checkpoint = checkpoint
        self._instance = instance

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._checkpoint(self._instance, *args, **kwargs)

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        return self._checkpoint.submit(self._instance, *args, **kwargs)


def _check_runtime(runtime: Runtime | None) -> Runtime | None:
    if runtime not in (None, "inline", "isolated"):
        raise UsageError(
            f"runtime={runtime!r} is not a way to run a checkpoint.",
            help='Use runtime="inline" (never a step of its own) or "isolated" (always one).',
        )
    return runtime


def _check_pickle(pickle: bool) -> bool:
    if type(pickle) is not bool:
        raise UsageError(
            f"pickle={pickle!r} does not say whether the result may be pickled.",
            help="Use pickle=True, or leave it out.",
        )
    return pickle


def _synchronous(function: Callable[..., Any], timeout: float | None) -> Callable[..., Any]:
    if not function.__code__.co_flags & _COROUTINE:
        return function

    def run(*args: Any, **kwargs: Any) -> Any:
        # Costs a tenth of a second that flows without async checkpoints need not pay.
        import asyncio

        async def cancelled_in_time() -> Any:
            # After the attempt has been given up, so that only that is what it is told to be.
            async with asyncio.timeout(None if timeout is None else timeout + _GRACE_SECONDS):
                return await function(*args, **kwargs)

        return asyncio.run(cancelled_in_time())

    return update_wrapper(run, function)


@overload
def checkpoint(function: Callable[P, R], /) -> Checkpoint[P, R]: ...
@overload
def checkpoint(
    *,
    name: str | None = None,
    retries: int | None = None,
    retry_delay: float | None = None,
    backoff: float | None = None,
    retry_on: RetryOn | None = None,
    timeout: float | None = None,
    cache: bool = True,
    runtime: Runtime | None = None,
    cpu: str | float | None = None,
    memory: str | None = None,
    gpu: int = 0,
    capture: Capture | None = None,
    pickle: bool = False,
) -> Callable[[Callable[P, R]], Checkpoint[P, R]]: ...
def checkpoint(
    function: Callable[P, R] | None = None, /, **options: Any
) -> Checkpoint[P, R] | Callable[[Callable[P, R]], Checkpoint[P, R]]:
    """Make a function a checkpoint; used as `@checkpoint` or `@checkpoint(…)`.

    Args:
        name: what its invocations are called after; default the function's name.
        retries: attempts after the first when it raises; default what the flow says, which is 0.
        retry_delay: seconds before the first retry; default what the flow says, which is 0.
        backoff: how many times longer each further retry waits, at most an hour; default what the
            flow says, which is 2. Up to half of each wait is left out at random.
        retry_on: the exception class, or a tuple of some, after which it is tried again; default
            what the flow says, which is any `Exception`.
        timeout: seconds that one attempt may take, after which it counts as failed with
            `kitaru.errors.CheckpointTimeout`; default no limit. An async function is cancelled.
            A thread cannot be stopped: any other goes on in its own until it ends by itself or with
            the process, on copies of its arguments, and what it returns or raises is dropped.
        cache: whether a result of another execution may be used; default true.
        runtime: `inline` for never a pipeline step of its own, `isolated` for always one.
        cpu, memory, gpu: what its step asks of the machine, as `0.5`, `"4Gi"` and a count.
        capture: what is kept of its model calls: `full`, `metadata` (no texts) or `off`; default
            what the flow says.
        pickle: whether parts of its result that nothing else keeps may be pickled; default false.
            A pickle runs code when it is loaded: only this flow's own processes ever load it, and
            `kitaru.load` in a checkpoint that says the same.

    Raises:
        UsageError: an option is wrong.

    Example:
        @checkpoint(retries=2, retry_delay=5, retry_on=ConnectionError, timeout=60)
        def research(topic: str) -> str:
            return kitaru.llm(f"Research: {topic}.")
    """
    if function is not None:
        return Checkpoint(function)
    return lambda f: Checkpoint(f, **options)
