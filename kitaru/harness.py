"""Durable steps of agent harnesses: the primitives on which `kitaru.adapters` is built.

A harness (Pydantic AI, LangGraph, an own loop around a model client) calls models and tools inside
the body of a flow. An adapter turns each of these calls into a step. A resumed execution reads the
recorded results and runs only the steps that have none.

    id of a step = <place><scope>.<key or name>      triage.model, triage.model_2, triage.call_x1

A scope names one run of an agent. What a harness does between its steps, such as creating tasks, is
glue: it runs again, and has no influence on ids.

Example:
    from kitaru import harness

    async def ask(messages: list[dict[str, Any]]) -> dict[str, Any]:
        reply = await client.create(messages)
        harness.usage(model=reply.model, input_tokens=reply.input, output_tokens=reply.output)
        return reply.to_dict()

    async with harness.scope("triage"):
        reply = await harness.step("model", lambda: ask(messages), kind="llm")
        for call in reply["tool_calls"]:
            await harness.step("tool", lambda: run(call), key=call["id"], kind="tool")
"""

from __future__ import annotations

import json
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Literal, get_args

from kitaru import primitives
from kitaru.checkpoints import BoundCheckpoint, Checkpoint
from kitaru.config import setting
from kitaru.errors import ContextError, UsageError
from kitaru.runtime import codec
from kitaru.runtime.engine.calls import Spec
from kitaru.runtime.engine.execution import current, in_body, in_checkpoint
from kitaru.runtime.engine.places import BODY, Place, current_task, inherited
from kitaru.runtime.engine.retries import policy
from kitaru.runtime.llm import budgets
from kitaru.runtime.llm.model_calls import note_call, policy_of
from kitaru.stores.base import Store
from kitaru.wire.names import name_from
from kitaru.wire.structs import Struct, replace

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = [
    "Execution",
    "StepKind",
    "attributes",
    "blocking_step",
    "blocking_wait",
    "clean",
    "current_execution",
    "current_step",
    "emit",
    "is_checkpoint",
    "listen",
    "place_provider",
    "scope",
    "step",
    "usage",
    "wait",
]

StepKind = Literal["llm", "tool", "agent"]
"""What a step is: a request to a model, a call of a tool, or anything else."""
Provider = Callable[[], tuple[str, object] | None]
Handler = Callable[[Any], object]

_handlers: ContextVar[tuple[Handler, ...]] = ContextVar("kitaru_handlers", default=())


class Execution(Struct):
    """The execution that the caller belongs to: its id, its store and the name of its flow."""

    exec_id: str
    store: Store
    flow: str


def current_execution() -> Execution | None:
    """Return the execution whose body calls; None where nothing can be recorded.

    That is outside flows, and inside checkpoints and the bodies of steps. An adapter that gets None
    lets its harness run as if the adapter did not exist.

    Example:
        if harness.current_execution() is None:
            return await tool(arguments)
    """
    found = current()
    if found is None or found.running is not None:
        return None
    journal = found.execution.journal
    return Execution(journal.exec_id, journal.store, journal.execution.flow)


def current_step() -> str | None:
    """Return the id of the step whose body calls; None outside of steps, and in checkpoints."""
    found = current()
    running = None if found is None else found.running
    return running.invocation if running is not None and running.is_step else None


def clean(text: str) -> str:
    """Return the part of an id for any text.

    Other characters than ASCII letters, digits, `_` and `-` become `_`. Text that is longer than
    100 characters, or has other letters than ASCII's, is shortened and ends with a digest.

    Example:
        >>> clean("get weather"), clean("7up")
        ('get_weather', '_7up')
    """
    return name_from(text)


def is_checkpoint(function: Any) -> bool:
    """Return whether a tool is a checkpoint, and so records its calls itself.

    Call such a tool, and any other that makes durable calls, inside a scope instead of a step.
    """
    return isinstance(function, Checkpoint | BoundCheckpoint)


# Steps


def step(
    name: str,
    body: Callable[[], Awaitable[Any]],
    *,
    key: str | None = None,
    kind: StepKind = "agent",
    arguments: Mapping[str, Any] | None = None,
    retries: int = 0,
    timeout: float | None = None,
    compared: bool = False,
    attributes: Mapping[str, Any] | None = None,
    version: str | None = None,
    read: Callable[[Any], Any] | None = None,
) -> Coroutine[Any, Any, Any]:
    """Run `body` once and return its recorded value. Only in a flow's body, on any event loop.

    The id is taken when `step` is called, not when it is awaited. The body runs in the task that
    awaits, with its context.

    Args:
        name: name of the step. Without a key, the step is numbered in its scope, and steps of one
            name must be made one after another.
        body: function without arguments that returns an awaitable. Its value must be one that a
            checkpoint can return. Durable calls in it are errors, also if it catches them.
        key: what identifies the step in its scope, such as the id of a tool call. Any text.
        kind: `llm` for a request to a model, `tool` for a call of a tool, else `agent`.
        arguments: arguments of the tool, as JSON, to show with the record.
        retries: attempts after the first. Default: 0, also if the flow sets more: a harness retries
            by its own rules.
        timeout: maximum seconds for one attempt. Default: the flow's.
        compared: whether other arguments in a replay are an error, `kitaru.errors.Diverged`.
            Default: false, since arguments may contain times.
        attributes: JSON to record with the step, shown as notes.
        version: name and version of the harness and of its format, such as `acme 2.1`. Recorded.
        read: function that turns the recorded value into that of the step, such as a validation.


    Raises:
        ContextError: the call is outside a flow's body.
        UsageError: the key is taken, or an argument is wrong.
        Diverged: another task makes a step of that name in the same scope now; or another version
            wrote the record, and `read` fails. The execution stops.
        Exception: what the body raised in its last attempt.

    Example:
        reply = await harness.step("model", lambda: client.create(messages), kind="llm")
    """
    execution = in_body("kitaru.harness.step")
    # asyncio is imported by the code that awaits.
    from kitaru.runtime.engine import awaited_calls

    async def attempt(**_: Any) -> Any:
        _begin(kind, attributes)
        value = await body()
        _check_own_calls()
        return value

    spec = _spec(name, attempt, kind, retries, timeout, compared, version, read)
    part = None if key is None else clean(key)
    return awaited_calls.call(execution, spec, (), _json(arguments, "arguments"), None, key=part)


def blocking_step(
    name: str,
    body: Callable[[], Any],
    *,
    key: str | None = None,
    kind: StepKind = "agent",
    arguments: Mapping[str, Any] | None = None,
    retries: int = 0,
    timeout: float | None = None,
    compared: bool = False,
    attributes: Mapping[str, Any] | None = None,
    version: str | None = None,
    read: Callable[[Any], Any] | None = None,
) -> Any:
    """Do what `step` does in code that blocks: in a flow that is not async, or on a thread.

    The thread must have the context of the flow, as those of `asyncio.to_thread` and LangGraph do.

    Example:
        rows = harness.blocking_step("search", lambda: search(query), key=call_id, kind="tool")
    """
    execution = in_body("kitaru.harness.blocking_step")

    def attempt(**_: Any) -> Any:
        _begin(kind, attributes)
        value = body()
        _check_own_calls()
        return value

    spec = _spec(name, attempt, kind, retries, timeout, compared, version, read)
    part = None if key is None else clean(key)
    return execution.invoke(spec, (), _json(arguments, "arguments"), None, part)


def _spec(
    name: str,
    attempt: Callable[..., Any],
    kind: StepKind,
    retries: int,
    timeout: float | None,
    compared: bool,
    version: str | None,
    read: Callable[[Any], Any] | None,
) -> Spec:
    if kind not in get_args(StepKind):
        raise UsageError(f"kind={kind!r} is not one of {', '.join(get_args(StepKind))}.")
    part = clean(name)
    return Spec(
        part,
        attempt,
        f"kitaru.harness.{part}",
        kind=kind,
        policy=policy("harness.step", retries, None, None, None, timeout),
        compared=compared,
        coroutine=attempt,
        fingerprint=lambda: version or "",
        is_step=True,
        read=read,
    )


def _begin(kind: StepKind, attributes: Mapping[str, Any] | None) -> None:
    if kind != "tool":
        budgets.check(in_checkpoint("kitaru.harness.step")[0])
    _note(attributes)


def _check_own_calls() -> None:
    """Raise the error of a durable call in a step again: a harness may have made a text of it."""
    refused = in_checkpoint("kitaru.harness.step")[1].refused
    if refused is not None:
        raise refused


def _json(given: Mapping[str, Any] | None, what: str) -> dict[str, Any]:
    if not given:
        return {}
    try:
        copy: dict[str, Any] = json.loads(json.dumps(dict(given)))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{what} of a step must be JSON by name: {error}.",
            help="Pass what the harness would send over the wire, such as model_dump(mode='json').",
        ) from None
    return copy


# Inside the body of a step


def usage(
    *,
    model: str | None = None,
    provider: str | None = None,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    cost_usd: float | None = None,
    latency_ms: float | None = None,
    prompt: Any = None,
    response: Any = None,
    tool_calls: Any = None,
    finish: str | None = None,
    **other: Any,
) -> None:
    """Record a request to a model with the step that made it. Only in the body of a step.

    `kitaru executions calls`, `kitaru model usage` and others show it like a call of `kitaru.llm`.
    Each call of `usage` is one request.

    Args:
        model: name of the model, such as `gpt-4o`.
        provider: its provider, such as `openai`. Default: unknown.
        input_tokens: number of tokens sent. Default: unknown, counted as 0.
        output_tokens: number of tokens received. Default: unknown, counted as 0.
        cost_usd: price of the request in US dollars. Default: unknown.
        latency_ms: duration of the request in milliseconds. Default: since the attempt began.
        prompt: text, or messages as JSON. The capture policy decides whether it is recorded;
            secrets are hidden.
        response: text, or a message as JSON; like `prompt`.
        tool_calls: tool calls of the response as JSON; like `prompt`.
        finish: why the response ended, such as `stop`.
        other: more numbers or short texts, such as `cached_tokens=120`.

    Raises:
        ContextError: the call is outside a step or checkpoint.

    Example:
        harness.usage(model="gpt-4o", input_tokens=120, output_tokens=14, cached_tokens=100)
    """
    execution, running = in_checkpoint("kitaru.harness.usage")
    texts = {"prompt": prompt, "response": response, "tool_calls": tool_calls}
    note_call(
        execution,
        running,
        model=model or "",
        provider=provider or "",
        tokens=(input_tokens or 0, output_tokens or 0),
        cost=cost_usd,
        seconds=None if latency_ms is None else latency_ms / 1000,
        finish=finish or "",
        texts={name: text for name, text in texts.items() if text is not None},
        other=_json({k: v for k, v in other.items() if v is not None}, "usage"),
    )


def attributes(**values: Any) -> None:
    """Record JSON with the running step, by name. The last value of a name counts.

    Raises:
        ContextError: the call is outside a step or checkpoint.

    Example:
        harness.attributes(request_id=reply.headers["x-request-id"])
    """
    in_checkpoint("kitaru.harness.attributes")
    _note(values)


def _note(values: Mapping[str, Any] | None) -> None:
    if values:
        running = in_checkpoint("kitaru.harness.step")[1]
        noted = _json(values, "attributes")
        running.metadata.update({key: codec.encode(value) for key, value in noted.items()})


def emit(event: Any, text: str = "") -> None:
    """Pass an event, such as a piece of text, to the handlers of `listen`. It is not recorded.

    Events are live only: a replay, which does not run the body of a recorded step, has none.

    Args:
        event: any object, for handlers in this process.
        text: the piece of a model's text in it. It is shown to people who watch the execution, as
            the text of `kitaru.llm(stream=…)` is, unless `capture` excludes texts.

    Raises:
        ContextError: the call is in a flow's body, where a replay would emit again.

    Example:
        async for piece in stream:
            harness.emit(piece, piece.text)
    """
    if current_execution() is not None:
        raise ContextError(
            "kitaru.harness.emit was used outside a step.",
            help="Emit events in the body of a step: a replay does not run it again.",
        )
    if text:
        _show(text)
    for handler in _handlers.get():
        handler(event)


def _show(text: str) -> None:
    scope = current()
    running = scope.running if scope is not None else None
    if scope is None or running is None:
        return
    if running.live_text is None:
        if policy_of(running, None) != "full" or not setting("logs").value:
            return
        running.live_text = scope.execution.log.text(running.invocation)
    running.live_text.add(text)


@contextmanager
def listen(handler: Handler) -> Iterator[None]:
    """Call `handler` with each event that steps emit in this block, in tasks and threads too.

    The handler is called where the event is emitted and must not block. Its exceptions fail the
    step. Handlers of outer blocks are called as well, before it.

    Example:
        with harness.listen(lambda event: print(event, end="", flush=True)):
            await agent.run("Write a poem.")
    """
    token = _handlers.set((*_handlers.get(), handler))
    try:
        yield
    finally:
        with suppress(ValueError):
            # A generator may be closed in another context, which has no such block.
            _handlers.reset(token)


# Scopes


class scope:
    """Begin the ids of the calls in this block with a name or key. For `with` and `async with`.

    Tasks and threads that are created inside have the place of the scope. They are not counted, so
    private functions of a harness never occur in ids.

    The place is taken when the object is created. It may be entered several times, also in other
    tasks. A scope has no record: what is in it runs again when the execution resumes. `path` is the
    beginning of the ids inside, such as `triage_2`.

    Args:
        name: name of the scope, such as that of an agent. Without a key, scopes of one name and
            place are numbered in the order of their creation.
        key: what identifies the scope in its place, such as the id of a tool call. Any text.
        tasks: whether tasks that are created inside are counted, as in a flow's body. For a scope
            around code of the user, such as a tool that makes durable calls. Default: false.

    Raises:
        ContextError: it is created outside a flow's body.
        UsageError: the key is taken.

    Example:
        async with harness.scope("researcher"):
            result = await runner.run(agent, question)
    """

    def __init__(self, name: str, *, key: str | None = None, tasks: bool = False) -> None:
        execution = in_body("kitaru.harness.scope")
        part = None if key is None else clean(key)
        place = execution.open_scope(clean(name), part, is_shared=not tasks)
        self.path = place.prefix.removesuffix(".")
        self._entered = _Entered(place)

    def __enter__(self) -> None:
        """Enter the place."""
        self._entered.enter()

    def __exit__(self, *_: object) -> None:
        """Return to the place before."""
        self._entered.leave()

    async def __aenter__(self) -> None:
        """Enter the place."""
        self._entered.enter()

    async def __aexit__(self, *_: object) -> None:
        """Return to the place before."""
        self._entered.leave()


@contextmanager
def place_provider(function: Provider, *, outermost: bool = False) -> Iterator[None]:
    """Let `function` place each durable call of this block, where a harness orders its own work.

    A harness such as LangGraph runs nodes on threads of its own, in any order. The function tells
    from the harness's own context where a call is made.

    Args:
        function: returns None, or the place and the attempt at it. The place is a path with dots,
            such as `search-1`, and stays the same in a replay. The attempt is any object: if it is
            another object than at the last call of this place, the code there has started again,
            and its calls get the same ids again.
        outermost: whether ids begin with that place, instead of the place of the caller. For code
            that only runs in tasks of the harness, whose names would otherwise occur in ids.

    Raises:
        ContextError: the call is outside a flow's body.

    Example:
        def node() -> tuple[str, object] | None:
            task = library.current_task()
            return None if task is None else (f"{task.node}-{task.step}", task)

        with harness.scope("graph"), harness.place_provider(node):
            graph.invoke(state)
    """

    def found() -> tuple[str, object] | None:
        placed = function()
        if placed is None:
            return None
        path, attempt = placed
        return ".".join(clean(part) for part in path.split(".")), attempt

    here = in_body("kitaru.harness.place_provider").place()
    here = BODY if outermost else here
    entered = _Entered(replace(here, is_shared=True, provider=found))
    entered.enter()
    try:
        yield
    finally:
        entered.leave()


class _Entered:
    """A place, and what to return to: for each task or thread that has entered it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._before: list[tuple[Any, Token[Place], Place | None]] = []

    def enter(self) -> None:
        owner, outer = _owner(), None
        if not isinstance(owner, int):
            # A task runs, so asyncio is imported.
            from kitaru.runtime.engine import tasks

            outer = tasks.put(owner, self._place)
        self._before.append((owner, inherited.set(self._place), outer))

    def leave(self) -> None:
        own = [one for one in self._before if one[0] == _owner()]
        # An async generator may be closed in another task than the one that it ran in.
        found = (own or self._before)[-1]
        self._before.remove(found)
        owner, token, outer = found
        with suppress(ValueError):
            inherited.reset(token)
        if not isinstance(owner, int):
            from kitaru.runtime.engine import tasks

            tasks.put(owner, outer)


def _owner() -> Any:
    return current_task() or threading.get_ident()


# Waits


def wait(
    *,
    name: str,
    question: str | None = None,
    schema: Any = None,
    timeout: float | timedelta | None = None,
    metadata: dict[str, Any] | None = None,
    evidence: Mapping[str, Any] | None = None,
    key: str | None = None,
) -> Coroutine[Any, Any, Any]:
    """Suspend this task until somebody answers, and return the answer; see `kitaru.aio.wait`.

    Args:
        name: name of the wait. Any text. Without a key, it is numbered in its scope.
        key: the id of the wait in its scope, such as the id of a tool call. Any text.

    `question`, `schema`, `timeout`, `metadata`, `evidence` and the errors are those of
    `kitaru.wait`. In a flow that is not async, the event loop cannot suspend: the wait blocks a
    thread.

    Example:
        approved = await harness.wait(name="approve", key=f"approve-{call.id}", schema=bool)
    """
    execution = in_body("kitaru.harness.wait")
    from kitaru.runtime.engine import awaited_calls

    request, seconds, read = primitives.asked(
        clean(name), question, schema, timeout, metadata, evidence
    )
    part = None if key is None else clean(key)
    return _read(awaited_calls.wait(execution, request, seconds, read, part), read)


async def _read(answered: Coroutine[Any, Any, Any], read: Callable[[Any], Any]) -> Any:
    return read(await answered)


def blocking_wait(
    *,
    name: str,
    question: str | None = None,
    schema: Any = None,
    timeout: float | timedelta | None = None,
    metadata: dict[str, Any] | None = None,
    evidence: Mapping[str, Any] | None = None,
    key: str | None = None,
) -> Any:
    """Do what `wait` does in code that blocks: in a flow that is not async, or on a thread.

    Example:
        approved = harness.blocking_wait(name="approve", key=f"approve-{call_id}", schema=bool)
    """
    execution = in_body("kitaru.harness.blocking_wait")
    request, seconds, read = primitives.asked(
        clean(name), question, schema, timeout, metadata, evidence
    )
    return read(execution.wait(request, seconds, read, None if key is None else clean(key)))
