"""Requests of agents to their models, as steps."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, nullcontext, suppress
from contextvars import ContextVar
from functools import cache
from typing import Any

from google.adk.models import BaseLlm, LlmRequest, LlmResponse

from kitaru import harness
from kitaru.adapters.google_adk.runs import VERSION, call_id
from kitaru.errors import ContextError
from kitaru.runtime.llm.exchange import public_price

_ORIGINAL = "_kitaru_original"

# The scope and the name of the request that ADK makes next in this task.
next_request: ContextVar[tuple[harness.scope, str] | None] = ContextVar(
    "kitaru_google_adk_request", default=None
)


def durable(model: BaseLlm) -> BaseLlm:
    """Return the model with requests that are steps where a flow's body makes them.

    It is an object of a subclass, because ADK asks some models for their class.
    """
    if _ORIGINAL in vars(model):
        return model
    made = model.model_copy()
    kind: Any = type(model)
    made.__class__ = _durable_class(kind)
    # Requests are its own, with the connections that it keeps open.
    vars(made)[_ORIGINAL] = model
    return made


@cache
def _durable_class(kind: Any) -> Any:
    async def generate_content_async(
        self: BaseLlm, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncIterator[LlmResponse]:
        found = next_request.get()
        next_request.set(None)
        model = vars(self)[_ORIGINAL]
        if harness.current_execution() is not None:
            for response in await _recorded(found, model, llm_request, stream):
                yield response
            return
        async with aclosing(model.generate_content_async(llm_request, stream=stream)) as pieces:
            last = None
            async for last in pieces:
                yield last
        with suppress(ContextError):
            # In a checkpoint. Outside of flows there is nothing to record it with.
            _note_usage(llm_request, last)

    attributes = {"__module__": kind.__module__, "generate_content_async": generate_content_async}
    return type(kind)(kind.__name__, (kind,), attributes)


async def _recorded(
    found: tuple[harness.scope, str] | None, model: BaseLlm, request: LlmRequest, stream: bool
) -> list[LlmResponse]:
    """Make a request as a step. Pieces of a response are live only, the flow sees it as a whole."""
    execution = harness.current_execution()
    assert execution is not None
    # Requests that no agent makes, such as those for summaries, are made one after another.
    place, name = found or (nullcontext(), "request")

    async def body() -> Any:
        whole, last = [], None
        async with aclosing(model.generate_content_async(request, stream=stream)) as pieces:
            async for last in pieces:
                if last.partial:
                    harness.emit(last, _text(last))
                else:
                    whole.append(last)
        _note_usage(request, last)
        for number, response in enumerate(whole):
            _name_calls(response, execution.exec_id, number)
        return [encode(response) for response in whole]

    with place:
        step = harness.step(
            name, body, kind="llm", version=VERSION, read=lambda found: [decode(r) for r in found]
        )
    responses: list[LlmResponse] = await step
    return responses


def _text(response: LlmResponse) -> str:
    """Return the text of a piece, without the thoughts of the model."""
    parts = (response.content.parts if response.content is not None else None) or ()
    return "".join(part.text for part in parts if part.text and not part.thought)


def _name_calls(response: LlmResponse, exec_id: str, number: int) -> None:
    """Give each function call an id, which ADK would choose at random in each process."""
    step = harness.current_step() or ""
    parts = (response.content.parts if response.content is not None else None) or ()
    for index, part in enumerate(parts):
        if part.function_call is not None and not part.function_call.id:
            place = f"{number}-{index}" if number else str(index)
            part.function_call.id = call_id(exec_id, step, place)


def encode(response: LlmResponse) -> Any:
    """Return a response as JSON, with the fields that were set."""
    return response.model_dump(mode="json", by_alias=True, exclude_unset=True)


def decode(record: Any) -> LlmResponse:
    """Return what `encode` was called with."""
    # From text: in JSON, but not in Python, bytes are base64.
    return LlmResponse.model_validate_json(json.dumps(record))


def _note_usage(request: LlmRequest, response: LlmResponse | None) -> None:
    """Record model, tokens and texts of a request with the running step."""
    used = response.usage_metadata if response is not None else None
    parts = (response.content.parts if response is not None and response.content else None) or ()
    calls = [part.function_call for part in parts if part.function_call is not None]
    model = (response.model_version if response is not None else None) or request.model or ""
    counts: dict[str, Any] = {}
    if used is not None:
        sent, cached = used.prompt_token_count or 0, used.cached_content_token_count
        # Gemini counts its thoughts beside the response.
        received = (used.candidates_token_count or 0) + (used.thoughts_token_count or 0)
        counts = {
            "input_tokens": sent,
            "output_tokens": received,
            "cached_tokens": cached,
            "reasoning_tokens": used.thoughts_token_count,
            "cost_usd": public_price(model.rpartition("/")[2], sent, received, cached or 0),
        }
    harness.usage(
        model=model,
        prompt=_prompt(request),
        response="".join(part.text for part in parts if part.text and not part.thought),
        tool_calls=[{"id": c.id, "name": c.name, "arguments": c.args} for c in calls] or None,
        finish=_finish(response),
        **counts,
    )


def _prompt(request: LlmRequest) -> list[Any]:
    shown = [one.model_dump(mode="json", exclude_none=True) for one in request.contents]
    system = request.config.system_instruction if request.config is not None else None
    if isinstance(system, str) and system:
        shown.insert(0, {"role": "system", "parts": [{"text": system}]})
    return shown


def _finish(response: LlmResponse | None) -> str | None:
    if response is None:
        return None
    reason = response.finish_reason
    return response.error_code or (str(reason.value).lower() if reason is not None else None)
