"""The primitives of `kitaru` for async code: the same names and arguments, to be awaited.

In the body of an async flow, `kitaru.wait`, `kitaru.inbox`, `kitaru.llm` and `kitaru.memory` block
the event loop, and with it all other tasks. These forms suspend only their own task. `kitaru.log`,
`now`, `save`, `secret` and `idempotency_key` do not wait for anything and have no second form.

Example:
    from kitaru import aio, flow

    @flow
    async def review_flow(topic: str) -> str:
        text = await aio.llm(f"Write about {topic}.")
        legal, editor = await asyncio.gather(aio.wait(name="legal"), aio.wait(name="editor"))
        return text if legal and editor else "Rejected"
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

from kitaru import children, primitives
from kitaru.memory import Entry, Memories, Version
from kitaru.model_calls import Options, Prompt, prepared
from kitaru.runtime.engine.execution import in_body
from kitaru.runtime.engine.primitives import awaited, in_thread
from kitaru.runtime.llm.model_calls import Capture, ModelCall, call_llm
from kitaru.runtime.llm.replies import Reply
from kitaru.runtime.memory.compaction import INSTRUCTION

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from kitaru.local_flow import LocalFlow

T = TypeVar("T")

__all__ = ["inbox", "invoke", "llm", "load", "memory", "sleep", "wait", "wait_event"]


def invoke(
    flow: str | LocalFlow[Any, Any],
    inputs: Mapping[str, Any] | None = None,
    *,
    wait: bool = True,
    on_cancel: Literal["cancel", "abandon"] = "cancel",
) -> Coroutine[Any, Any, Any]:
    """Start a child execution without blocking the event loop. Only in a flow's body.

    The arguments and errors are those of `kitaru.invoke`. With `wait=False`, await the `Child` that
    it returns.

    Example:
        totals = await asyncio.gather(*[aio.invoke("billing", {"customer": c}) for c in customers])
    """
    return children.invoke_async(flow, inputs, wait=wait, on_cancel=on_cancel)


def wait(
    *,
    name: str | None = None,
    question: str | None = None,
    schema: Any = None,
    timeout: float | timedelta | None = None,
    metadata: dict[str, Any] | None = None,
    evidence: Mapping[str, Any] | None = None,
    deadline: float | timedelta | datetime | None = None,
    default: Any = ...,
    escalate: Sequence[tuple[float | timedelta | datetime, str]] | None = None,
) -> Coroutine[Any, Any, Any]:
    """Suspend this task until somebody answers, and return the answer. Only in a flow's body.

    The arguments and errors are those of `kitaru.wait`. Several waits may be pending at once, and
    are answered one by one. The execution is waiting when a wait is pending, no durable call is in
    flight and no task can continue. A timer, such as that of `asyncio.timeout`, does not keep the
    execution running, and is lost if the process ends.

    Example:
        answers = await asyncio.gather(*[aio.wait(name=one, schema=int) for one in names])
    """
    execution = in_body("kitaru.aio.wait")
    # asyncio is imported by the code that awaits.
    from kitaru.runtime.engine import awaited_calls

    request, seconds, read = primitives.asked(
        name, question, schema, timeout, metadata, evidence, deadline, default, escalate
    )
    return _read(awaited_calls.wait(execution, request, seconds, read), read)


def sleep(
    duration: float | timedelta | None = None,
    *,
    until: datetime | None = None,
    name: str | None = None,
) -> Coroutine[Any, Any, None]:
    """Suspend this task for a time; arguments and errors of `kitaru.sleep`.

    The moment at which it ends is computed by the call, not by the `await`.

    Example:
        await asyncio.gather(aio.sleep(60), aio.wait(name="early"))
    """
    execution = in_body("kitaru.aio.sleep")
    # asyncio is imported by the code that awaits.
    from kitaru.runtime.engine import awaited_calls

    request = primitives.timer("kitaru.aio.sleep", duration, until, name)
    return awaited_calls.wait(execution, request, 0.0, primitives.slept)


def wait_event(
    event: str,
    *,
    match: Mapping[str, Any] | None = None,
    where: str | None = None,
    name: str | None = None,
    since: datetime | timedelta | None = None,
    deadline: float | timedelta | datetime | None = None,
    default: Any = ...,
) -> Coroutine[Any, Any, Any]:
    """Suspend this task until an event comes; arguments and errors of `kitaru.wait_event`.

    Example:
        paid = await aio.wait_event("invoice.paid", match={"invoice": invoice.id})
    """
    execution = in_body("kitaru.aio.wait_event")
    # asyncio is imported by the code that awaits.
    from kitaru.runtime.engine import awaited_calls

    request = primitives.event_request(
        "kitaru.aio.wait_event", event, match, where, name, since, deadline, default
    )
    return awaited_calls.wait(execution, request, 0.0, primitives.as_sent)


async def _read(answered: Coroutine[Any, Any, Any], read: Callable[[Any], T]) -> T:
    return read(await answered)


@overload
def llm(
    prompt: Prompt, *, schema: type[T], **options: Unpack[Options]
) -> Coroutine[Any, Any, T]: ...
@overload
def llm(
    prompt: Prompt, *, tools: Sequence[dict[str, Any]], **options: Unpack[Options]
) -> Coroutine[Any, Any, Reply]: ...
@overload
def llm(prompt: Prompt, **options: Unpack[Options]) -> Coroutine[Any, Any, str]: ...
def llm(
    prompt: Prompt,
    *,
    model: str | None = None,
    system: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    tools: Sequence[dict[str, Any]] | None = None,
    schema: Any = None,
    stream: Callable[[str], object] | bool | None = None,
    retries: int = 2,
    timeout: float = 600,
    capture: Capture | None = None,
    name: str | None = None,
) -> Coroutine[Any, Any, Any]:
    """Call a model without blocking the event loop; arguments and errors of `kitaru.llm`.

    `stream` is called on the thread that waits for the model.

    Example:
        texts = await asyncio.gather(*[aio.llm(f"Write about {one}.") for one in topics])
    """
    request, read = prepared(
        prompt, model, system, temperature, max_tokens, tools, schema, stream, retries, timeout,
        capture,
    )  # fmt: skip
    return awaited(call_llm(name, ModelCall(request, read, stream, capture)))


def inbox(name: str) -> Coroutine[Any, Any, list[Any]]:
    """Return what was sent to the execution since the last read; see `kitaru.inbox`.

    Two tasks that read one inbox never receive the same signal.

    Example:
        notes = await aio.inbox("steer")
    """
    return awaited(primitives.reading(name))


def load(exec_id: str, name: str) -> Coroutine[Any, Any, Any]:
    """Return an artifact of an execution. Only in a checkpoint; see `kitaru.load`."""
    return in_thread(primitives.load, exec_id, name)


class AsyncMemories:
    """The operations of `kitaru.memory`, as coroutines with the same arguments and errors.

    Example:
        tone = await aio.memory.get("tone", "friendly")
        await aio.memory.set("tone", "formal", scope="namespace:sales")
    """

    def __init__(self) -> None:
        self._memories: Any = Memories(run=awaited)

    def configure(
        self, *, scope: str | None = None, scope_type: str | None = None
    ) -> Coroutine[Any, Any, None]:
        """Set the default scope of later operations; see `kitaru.memory.configure`."""
        made: Coroutine[Any, Any, None] = self._memories.configure(
            scope=scope, scope_type=scope_type
        )
        return made

    def get(
        self,
        key: str,
        default: Any = None,
        *,
        version: int | None = None,
        strict: bool = False,
        scope: str | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Return the value of a key, or `default`; see `kitaru.memory.get`."""
        made: Coroutine[Any, Any, Any] = self._memories.get(
            key, default, version=version, strict=strict, scope=scope
        )
        return made

    def entry(
        self, key: str, *, version: int | None = None, scope: str | None = None
    ) -> Coroutine[Any, Any, Entry | None]:
        """Return a value with its version; see `kitaru.memory.entry`."""
        made: Coroutine[Any, Any, Entry | None] = self._memories.entry(
            key, version=version, scope=scope
        )
        return made

    def set(
        self, key: str, value: Any, *, expect: int | None = None, scope: str | None = None
    ) -> Coroutine[Any, Any, int]:
        """Write the next version of a key, and return its number; see `kitaru.memory.set`."""
        made: Coroutine[Any, Any, int] = self._memories.set(key, value, expect=expect, scope=scope)
        return made

    def delete(
        self, key: str, *, expect: int | None = None, scope: str | None = None
    ) -> Coroutine[Any, Any, bool]:
        """Delete a key's value; return False without a value; see `kitaru.memory.delete`."""
        made: Coroutine[Any, Any, bool] = self._memories.delete(key, expect=expect, scope=scope)
        return made

    def list(
        self, prefix: str = "", *, scope: str | None = None
    ) -> Coroutine[Any, Any, builtins.list[str]]:
        """Return the keys that start with `prefix`; see `kitaru.memory.list`."""
        made: Coroutine[Any, Any, builtins.list[str]] = self._memories.list(prefix, scope=scope)
        return made

    def history(
        self, key: str, *, limit: int | None = None, scope: str | None = None
    ) -> Coroutine[Any, Any, builtins.list[Version]]:
        """Return the versions of a key, oldest first; see `kitaru.memory.history`."""
        made: Coroutine[Any, Any, builtins.list[Version]] = self._memories.history(
            key, limit=limit, scope=scope
        )
        return made

    def compact(
        self,
        key: str | None = None,
        *,
        prefix: str | None = None,
        into: str | None = None,
        instruction: str = INSTRUCTION,
        model: str | None = None,
        scope: str | None = None,
    ) -> Coroutine[Any, Any, int]:
        """Let a model merge what is remembered into one text; see `kitaru.memory.compact`."""
        made: Coroutine[Any, Any, int] = self._memories.compact(
            key, prefix=prefix, into=into, instruction=instruction, model=model, scope=scope
        )
        return made


memory = AsyncMemories()
