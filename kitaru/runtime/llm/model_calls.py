"""Decides what a model call is where it stands: durable in a flow, part of a checkpoint in one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kitaru.errors import ModelAnswerInvalid
from kitaru.runtime.llm.capture import keep
from kitaru.runtime.llm.models import ModelRequest, Resolved, resolve
from kitaru.runtime.observing import telemetry
from kitaru.runtime.running.calls import Spec
from kitaru.runtime.running.context import anywhere, current
from kitaru.runtime.running.retries import ONCE
from kitaru.wire.names import check_name
from kitaru.wire.structs import Struct, replace

if TYPE_CHECKING:
    from kitaru.runtime.llm.providers import Answer, Stream

_REPAIRS = 1


class ModelCall(Struct):
    """A request, and what to do with its answer.

    `read` makes the value of an answer and raises ModelAnswerInvalid for one that does not fit,
    after which the model is asked once more. `stream` is given the text as it comes, and `capture`
    says what is kept of it all.
    """

    request: ModelRequest
    read: Callable[[Answer], Any]
    stream: Stream | None = None
    capture: str | None = None


def call_llm(name: str | None, call: ModelCall) -> Any:
    """Make a model call where the caller stands: durable in a flow's body, a child in a checkpoint.

    Raises:
        ContextError: outside a flow.
        ModelAnswerInvalid: neither answer fits what was asked for.
        Exception: the provider's error, of litellm's type.
    """
    scope = anywhere("kitaru.llm")

    def answered(**_: Any) -> Any:
        return answer(call)

    if scope.running is not None:
        return answered()
    spec = Spec(
        check_name("model call", name or "llm"), answered, "kitaru.llm", kind="llm", policy=ONCE
    )
    return scope.execution.invoke(spec, (), call.request.identity(), None)


def answer(call: ModelCall) -> Any:
    """Ask, and ask once more where the answer does not fit; return what `read` makes of it."""
    request = call.request
    for repairs in range(_REPAIRS + 1):
        found, _ = ask(request, call.stream, call.capture)
        try:
            return call.read(found)
        except ModelAnswerInvalid as error:
            if repairs == _REPAIRS:
                raise
            request = _repaired(call.request, found, error)
    raise AssertionError("the last answer is returned or refused")


def ask(
    request: ModelRequest, stream: Stream | None = None, capture: str | None = None
) -> tuple[Answer, dict[str, Any]]:
    """Ask once, keep it with the attempt that runs, if one does, and return everything known.

    A replay may ask another model than the one that is configured.
    """
    scope = current()
    replay = scope.execution.journal.execution.replay if scope else None
    resolved = resolve(request.model, replay.models if replay else {})
    shown = {"temperature": request.temperature, "max_tokens": request.max_tokens}
    with telemetry.model_call(resolved.model, shown) as told:
        found, facts = _asked(request, resolved, stream)
        told.update(facts)
    if scope is not None and scope.running is not None:
        keep(scope.execution.journal, scope.running, facts, capture)
    return found, facts


def _asked(
    request: ModelRequest, resolved: Resolved, stream: Stream | None
) -> tuple[Answer, dict[str, Any]]:
    # Most flows start without asking any model.
    from kitaru.runtime.llm import providers

    started = time.perf_counter()
    found = providers.ask(request, resolved, stream)
    facts: dict[str, Any] = {
        "asked": request.model,
        "model": resolved.name,
        "resolved": resolved.model,
        "prompt": request.prompt,
        "response": found.text,
        "system": request.system,
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
        "tokens": {"prompt": found.prompt_tokens, "completion": found.completion_tokens},
        "latency_s": round(time.perf_counter() - started, 6),
        "cost": found.cost,
        "tries": found.tries,
        "finish": found.finish,
    }
    optional = {"tools": request.tools, "schema": request.schema, "tool_calls": found.tool_calls}
    return found, facts | {name: value for name, value in optional.items() if value}


def _repaired(request: ModelRequest, found: Answer, error: ModelAnswerInvalid) -> ModelRequest:
    """Return the request that shows the model its answer and what is wrong with it."""
    said = found.text or "\n".join(call["arguments"] for call in found.tool_calls)
    asked = replace(request, system=None).messages()
    again = [
        {"role": "assistant", "content": said},
        {
            "role": "user",
            "content": f"{error.message}\nAnswer again, with what was asked for alone.",
        },
    ]
    return replace(request, prompt=[*asked, *again])
