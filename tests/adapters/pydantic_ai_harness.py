"""Pydantic AI, as the conformance kit uses it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, ClassVar

import pydantic_ai
from pydantic_ai import RunContext, Tool
from pydantic_ai.durable_exec import JSON_CODEC
from pydantic_ai.messages import (
    BinaryImage,
    FilePart,
    ModelMessage,
    ModelResponse,
    ModelResponsePart,
    NativeToolCallPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.run import AgentRunResult
from pydantic_ai.usage import RequestUsage

from kitaru.adapters.pydantic_ai import KitaruAgent
from kitaru.harness import is_checkpoint
from kitaru.testing.adapters import Agent, Feature, Harness, Outcome, Turn
from kitaru.testing.adapters import Tool as ScriptedTool

Durable = KitaruAgent[dict[str, Any], str]


class PydanticAI(Harness):
    packages = ("pydantic_ai",)
    unsupported: ClassVar[Mapping[Feature, str]] = {
        "guard": "Pydantic AI has no guardrails.",
        "retries": "The retries of a request are those of the client, inside of its step.",
        "session": "Pydantic AI keeps no conversations: a run gets its message history.",
    }
    refused: ClassVar[frozenset[Feature]] = frozenset({"state"})
    names: ClassVar[frozenset[str]] = frozenset({"model"})

    async def run(
        self,
        agent: Agent,
        prompt: str,
        *,
        state: dict[str, Any] | None = None,
        session: str | None = None,
    ) -> Outcome:
        return _outcome(await durable(agent).run(prompt, deps=state or {}), state)

    def run_sync(self, agent: Agent, prompt: str) -> Outcome:
        return _outcome(durable(agent).run_sync(prompt, deps={}), None)

    async def stream(self, agent: Agent, prompt: str) -> AsyncIterator[str]:
        async with durable(agent).run_stream(prompt, deps={}) as result:
            async for piece in result.stream_text(delta=True):
                yield piece

    def messages(self) -> Iterable[tuple[str, Any, Any]]:
        parts: dict[str, ModelResponsePart] = {
            "text": TextPart("héllo", id="t", provider_name="p", provider_details={"a": [1.5]}),
            "reasoning": ThinkingPart("hm", signature="s", provider_name="p"),
            "image": FilePart(BinaryImage(b"\x00\xff", media_type="image/png"), id="f"),
            "tool call": ToolCallPart("look", {"a": [1, None]}, "c", provider_details={"x": 1}),
            "tool call as text": ToolCallPart("look", '{"a": 1.0}', "c"),
            "native tool call": NativeToolCallPart("search", {"q": "x"}, "c", provider_name="p"),
        }
        for name, part in parts.items():
            message = ModelResponse(
                parts=[part], usage=RequestUsage(input_tokens=1, details={"a": 2}), model_name="m"
            )
            yield name, message, JSON_CODEC.load(ModelResponse, _through_json(message))
        refusal = ModelResponse(parts=[], finish_reason="content_filter", provider_details={"r": 1})
        yield "refusal", refusal, JSON_CODEC.load(ModelResponse, _through_json(refusal))


def _through_json(message: ModelResponse) -> Any:
    return json.loads(json.dumps(JSON_CODEC.dump(ModelResponse, message)))


def _outcome(result: AgentRunResult[str], state: dict[str, Any] | None) -> Outcome:
    used = result.usage
    return Outcome(result.output, used.input_tokens + used.output_tokens, state)


def durable(agent: Agent) -> Durable:
    """Return a durable agent that follows a script."""
    tools = [_tool(tool) for tool in agent.tools]
    tools += [
        Tool(_nested(nested), name=nested.name, metadata={"kitaru": False})
        for nested in agent.agents
    ]
    made: pydantic_ai.Agent[dict[str, Any], str] = pydantic_ai.Agent(
        _model(agent), name=agent.name, deps_type=dict[str, Any], tools=tools
    )
    return KitaruAgent(made)


def _tool(tool: ScriptedTool) -> Tool[dict[str, Any]]:
    function: Callable[..., Any] = tool.function
    if tool.changes_state:

        async def changing(ctx: RunContext[dict[str, Any]], item: str) -> str:
            return str(await tool.function(item, ctx.deps))

        function = changing
    # A checkpoint is recognized.
    marked = tool.has_own_calls and not is_checkpoint(function)
    metadata = {"kitaru": False} if marked else None
    return Tool(function, name=tool.name, requires_approval=tool.approval, metadata=metadata)


def _nested(agent: Agent) -> Callable[..., Any]:
    async def call(ctx: RunContext[dict[str, Any]], item: str) -> str:
        return (await durable(agent).run(item, deps=ctx.deps, usage=ctx.usage)).output

    return call


def _model(agent: Agent) -> FunctionModel:
    async def answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        return _response(await agent.respond(_answered(messages)))

    async def stream(
        messages: list[ModelMessage], _: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        async for piece in agent.stream(_answered(messages)):
            if isinstance(piece, str):
                yield piece
                continue
            for number, call in enumerate(piece.calls):
                args = f'{{"item": "{call.item}"}}'
                yield {number: DeltaToolCall(call.tool, args, tool_call_id=call.id)}

    return FunctionModel(answer, stream_function=stream)


def _answered(messages: list[ModelMessage]) -> list[str]:
    parts = [part for message in messages if message.kind == "request" for part in message.parts]
    return [str(getattr(part, "tool_call_id", "")) for part in parts]


def _response(turn: Turn) -> ModelResponse:
    calls = [ToolCallPart(call.tool, {"item": call.item}, call.id) for call in turn.calls]
    return ModelResponse(
        parts=calls or [TextPart(turn.text)],
        usage=RequestUsage(input_tokens=turn.input_tokens, output_tokens=turn.output_tokens),
    )
