"""Models of the SDK whose requests are steps.

In a flow, the SDK sees a response when it is recorded, also if it streams. Otherwise the flow could
act on a piece of a response that the model does not repeat after a crash. The live events go to the
handlers of `kitaru.harness.listen`.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any

from agents import Model, ModelProvider, ModelResponse
from agents.items import TResponseStreamEvent
from openai.types.responses import Response
from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from kitaru import harness
from kitaru.adapters.openai_agents.runs import VERSION, recording_run
from kitaru.errors import ContextError

_RESPONSE = TypeAdapter(ModelResponse)
_EVENT: TypeAdapter[Any] = TypeAdapter(TResponseStreamEvent)
_TERMINAL = ("response.completed", "response.incomplete", "response.failed", "error")


class RecordedModel(Model):
    """A model whose requests are steps in a flow. Everything else is that of `inner`."""

    def __init__(self, inner: Model) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def get_response(self, *args: Any, **options: Any) -> ModelResponse:
        """Make the request, or return the recorded response."""

        async def request() -> ModelResponse:
            response = await self._inner.get_response(*args, **options)
            _note(self._inner, args, options, response.output, response.usage)
            return response

        if recording_run() is None:
            return await request()
        recorded: ModelResponse = await self._step(request, encode_response, decode_response)
        return recorded

    async def stream_response(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        """Stream the response; in a flow, as whole texts when it is recorded."""
        events = functools.partial(self._inner.stream_response, *args, **options)
        if recording_run() is None:
            async with aclosing(_generator(events())) as stream:
                async for event in stream:
                    self._note_terminal(event, args, options)
                    yield event
            return

        async def request() -> Any:
            items, terminal = [], None
            async with aclosing(_generator(events())) as stream:
                async for event in stream:
                    is_text = event.type == "response.output_text.delta"
                    harness.emit(event, event.delta if is_text else "")
                    if event.type == "response.output_item.done":
                        items.append(event.item)
                    if event.type in _TERMINAL:
                        terminal = event
                        break
            response = getattr(terminal, "response", None)
            if response is not None and not response.output:
                # Some servers send the items only one by one.
                response.output = items
            self._note_terminal(terminal, args, options)
            return terminal

        terminal = await self._step(request, _encode_event, _decode_event)
        for event in _whole_events(terminal):
            yield event

    async def _step(self, request: Any, encode: Any, decode: Any) -> Any:
        run = recording_run()
        assert run is not None

        async def body() -> Any:
            return encode(await request())

        with run.scope:
            step = harness.step("model", body, kind="llm", version=VERSION, read=decode)
        return await step

    def _note_terminal(self, event: Any, args: Sequence[Any], options: dict[str, Any]) -> None:
        response = getattr(event, "response", None)
        if isinstance(response, Response) and event.type in _TERMINAL:
            _note(self._inner, args, options, response.output, response.usage)


def _delegated(name: str) -> Any:
    def method(self: RecordedModel, *args: Any, **options: Any) -> Any:
        return getattr(self._inner, name)(*args, **options)

    return method


for _name, _member in vars(Model).items():
    # What the base class defines, `__getattr__` does not see.
    if callable(_member) and not _name.startswith("__") and _name not in vars(RecordedModel):
        setattr(RecordedModel, _name, _delegated(_name))


class RecordedProvider(ModelProvider):
    """A provider whose models record their requests."""

    def __init__(self, inner: ModelProvider) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def get_model(self, model_name: str | None) -> Model:
        """Return a model by name."""
        return recorded(self._inner.get_model(model_name))

    async def aclose(self) -> None:
        """Close the provider."""
        await self._inner.aclose()


def recorded(model: Model) -> Model:
    """Return a model that records the requests of `model`."""
    return model if isinstance(model, RecordedModel) else RecordedModel(model)


# Responses as JSON. By alias and without unset fields, they come back equal.


def encode_response(response: ModelResponse) -> Any:
    """Return a response as JSON."""
    return _RESPONSE.dump_python(response, mode="json", by_alias=True, exclude_unset=True)


def decode_response(record: Any) -> ModelResponse:
    """Return the response that was recorded."""
    return _RESPONSE.validate_python(record)


def _encode_event(event: Any) -> Any:
    if event is None:
        return None
    return _EVENT.dump_python(event, mode="json", by_alias=True, exclude_unset=True)


def _decode_event(record: Any) -> Any:
    return None if record is None else _EVENT.validate_python(record)


def _whole_events(terminal: Any) -> Iterator[Any]:
    """Yield the events of a stream whose texts and arguments are one piece each."""
    if terminal is None:
        return
    response = getattr(terminal, "response", None)
    for index, item in enumerate(response.output if response is not None else ()):
        shown = item.model_dump(mode="json", by_alias=True, exclude_unset=True)
        at = {"output_index": index, "sequence_number": 0}
        in_item = {**at, "item_id": getattr(item, "id", None) or ""}
        yield _decode_event({"type": "response.output_item.added", "item": shown, **at})
        if item.type == "function_call":
            whole = {"delta": item.arguments, **in_item}
            yield _decode_event({"type": "response.function_call_arguments.delta", **whole})
        for number, part in enumerate(item.content if item.type == "message" else ()):
            where = {"content_index": number, **in_item}
            if part.type == "output_text":
                whole = {"delta": part.text, "logprobs": [], **where}
                yield _decode_event({"type": "response.output_text.delta", **whole})
            else:
                whole = {"delta": part.refusal, **where}
                yield _decode_event({"type": "response.refusal.delta", **whole})
        yield _decode_event({"type": "response.output_item.done", "item": shown, **at})
    yield terminal


async def _generator(stream: Any) -> AsyncGenerator[Any, None]:
    """Turn the iterator of a model into a generator, which can be closed."""
    async for event in stream:
        yield event


# What is recorded about a request


def _note(
    model: Model, args: Sequence[Any], options: Mapping[str, Any], output: Any, usage: Any
) -> None:
    """Record a request with the running step or checkpoint; outside of both, do nothing."""
    given = dict(zip(("system_instructions", "input"), args, strict=False)) | dict(options)
    with suppress(ContextError):
        harness.usage(
            model=str(getattr(model, "model", None) or type(model).__name__),
            input_tokens=getattr(usage, "input_tokens", None),
            output_tokens=getattr(usage, "output_tokens", None),
            prompt=_prompt(given.get("system_instructions"), given.get("input")),
            response="".join(_texts(output)),
            tool_calls=[
                {"id": item.call_id, "name": item.name, "arguments": item.arguments}
                for item in output
                if getattr(item, "type", "") == "function_call"
            ]
            or None,
            cached_tokens=_detail(usage, "input_tokens_details", "cached_tokens"),
            reasoning_tokens=_detail(usage, "output_tokens_details", "reasoning_tokens"),
        )


def _prompt(instructions: str | None, items: Any) -> Any:
    system = [{"role": "system", "content": instructions}] if instructions else []
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    return [*system, *to_jsonable_python(items or [], fallback=str)]


def _texts(output: Any) -> Iterator[str]:
    for item in output:
        if getattr(item, "type", "") == "message":
            for part in item.content:
                yield part.text if part.type == "output_text" else part.refusal


def _detail(usage: Any, details: str, name: str) -> int | None:
    return getattr(getattr(usage, details, None), name, None) or None
