"""The OpenAI Agents SDK, as the conformance kit uses it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import agents
import httpx2
import openai
from agents import (
    FunctionTool,
    GuardrailFunctionOutput,
    InputGuardrail,
    Model,
    ModelResponse,
    ModelRetrySettings,
    ModelSettings,
    Usage,
    function_tool,
    retry_policies,
)
from agents.tool_context import ToolContext
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputRefusal,
    ResponseOutputText,
    ResponseReasoningItem,
    ResponseTextDeltaEvent,
    ResponseUsage,
)
from openai.types.responses.response_output_item import ImageGenerationCall
from openai.types.responses.response_reasoning_item import Summary

from kitaru.adapters.openai_agents import KitaruRunner, KitaruSession, flow_tool
from kitaru.adapters.openai_agents.models import decode_response, encode_response
from kitaru.harness import is_checkpoint
from kitaru.testing.adapters import Agent, Feature, Harness, Outcome, Tool, Turn, Unavailable

REQUEST = httpx2.Request("POST", "http://127.0.0.1/responses")


class OpenAIAgents(Harness):
    packages = ("agents",)
    records = Path(__file__).parent / "records"
    unsupported: ClassVar[Mapping[Feature, str]] = {}
    # Ours, or names of a script.
    names: ClassVar[frozenset[str]] = frozenset({"model", "guard", "stream", "retry"})

    async def run(
        self,
        agent: Agent,
        prompt: str,
        *,
        state: dict[str, Any] | None = None,
        session: str | None = None,
    ) -> Outcome:
        kept = None if session is None else KitaruSession(session)
        result = await KitaruRunner.run(made(agent), prompt, context=state, session=kept)
        history = [] if kept is None else [_text(item) for item in await kept.get_items()]
        return _outcome(result, state, history)

    def run_sync(self, agent: Agent, prompt: str) -> Outcome:
        return _outcome(KitaruRunner.run_sync(made(agent), prompt), None, [])

    async def stream(self, agent: Agent, prompt: str) -> AsyncIterator[str]:
        result = KitaruRunner.run_streamed(made(agent), prompt)
        async for event in result.stream_events():
            piece = event.data if event.type == "raw_response_event" else None
            if piece is not None and piece.type == "response.output_text.delta":
                yield piece.delta

    def messages(self) -> Iterable[tuple[str, Any, Any]]:
        for name, item in ITEMS.items():
            response = ModelResponse([item], Usage(requests=1, input_tokens=3), "r_1")
            read = decode_response(json.loads(json.dumps(encode_response(response))))
            yield f"response with {name}", response, read
            yield name, item, read.output[0]


ITEMS: dict[str, Any] = {
    "text": ResponseOutputMessage.model_validate(
        {
            "id": "m", "role": "assistant", "type": "message", "status": "completed",
            "content": [{"type": "output_text", "text": "héllo", "annotations": [], "own": [1.5]}],
            "provider_data": {"model": "x"},
        }
    ),
    "reasoning": ResponseReasoningItem(
        id="r", summary=[Summary(text="hm", type="summary_text")], type="reasoning",
        encrypted_content="…",
    ),
    "image": ImageGenerationCall(
        id="i", result="AP8=", status="completed", type="image_generation_call"
    ),
    "tool call": ResponseFunctionToolCall.model_validate(
        {
            "arguments": '{"a": 1.0}', "call_id": "c", "name": "look", "type": "function_call",
            "async": True, "provider": {"signature": "s"},
        }
    ),
    "refusal": ResponseOutputMessage(
        id="m", role="assistant", type="message", status="completed",
        content=[ResponseOutputRefusal(refusal="no", type="refusal")],
    ),
}  # fmt: skip


def _outcome(result: Any, state: dict[str, Any] | None, history: list[str]) -> Outcome:
    used = result.context_wrapper.usage
    return Outcome(result.final_output, used.total_tokens, state, history)


def _text(item: Any) -> str:
    content = item.get("content", "")
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def made(agent: Agent) -> agents.Agent[Any]:
    """Return an agent of the SDK that follows a script."""
    tools: list[Any] = [_tool(tool) for tool in agent.tools]
    tools += [made(one).as_tool(one.name, one.name) for one in agent.agents]
    retry = ModelRetrySettings(
        max_retries=agent.requests - 1,
        policy=retry_policies.network_error(),
        backoff={"initial_delay": 0.001},
    )
    guards = [] if agent.guard is None else [_guard(agent.guard)]
    return agents.Agent(
        name=agent.name,
        model=Follows(agent),
        model_settings=ModelSettings(retry=retry),
        tools=tools,
        input_guardrails=guards,
    )


def _tool(tool: Tool) -> FunctionTool:
    function = tool.function
    if tool.changes_state:

        async def changing(context: ToolContext[dict[str, Any]], item: str) -> str:
            return str(await tool.function(item, context.context))

        function = changing
    found = function_tool(function, name_override=tool.name, needs_approval=tool.approval)
    # A checkpoint is recognized.
    if tool.has_own_calls and not is_checkpoint(tool.function):
        return flow_tool(found)
    return found


def _guard(agent: Agent) -> InputGuardrail[Any]:
    guard = made(agent)

    async def check(context: Any, _: Any, prompt: Any) -> GuardrailFunctionOutput:
        result = await agents.Runner.run(guard, prompt, context=context.context)
        return GuardrailFunctionOutput(result.final_output, result.final_output == "no")

    return InputGuardrail(check, name=agent.name)


def model(*turns: list[tuple[str, dict[str, Any]]] | str) -> Model:
    """Return a model whose responses are tool calls, by name and arguments, or texts."""
    from .programs import Scripted

    return Scripted(lambda turn, _: turns[turn])


class Follows(Model):
    """A model that follows the script of an agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> Any:
        try:
            turn = await self._agent.respond(_answered(input))
        except Unavailable as error:
            raise openai.APIConnectionError(message=str(error), request=REQUEST) from None
        used = Usage(
            requests=1,
            input_tokens=turn.input_tokens,
            output_tokens=turn.output_tokens,
            total_tokens=turn.input_tokens + turn.output_tokens,
        )
        return ModelResponse(output_of(turn), used, response_id=None)

    async def stream_response(
        self, system_instructions: Any, input: Any, *_: Any, **__: Any
    ) -> AsyncIterator[Any]:
        async for piece in self._agent.stream(_answered(input)):
            if isinstance(piece, str):
                yield ResponseTextDeltaEvent(
                    content_index=0, delta=piece, item_id="m", logprobs=[], output_index=0,
                    sequence_number=1, type="response.output_text.delta",
                )  # fmt: skip
            else:
                response = response_of(piece)
                yield ResponseCompletedEvent(
                    response=response, sequence_number=2, type="response.completed"
                )


def _answered(items: Any) -> list[str]:
    if isinstance(items, str):
        return []
    return [str(item.get("call_id")) for item in items if item.get("output") is not None]


def output_of(turn: Turn) -> list[Any]:
    """Return the output of a response."""
    if not turn.calls:
        text = ResponseOutputText(annotations=[], text=turn.text, type="output_text")
        return [
            ResponseOutputMessage(
                id="m", content=[text], role="assistant", status="completed", type="message"
            )
        ]
    return [
        ResponseFunctionToolCall(
            arguments=json.dumps({_parameter(call.tool): call.item}),
            call_id=call.id,
            name=call.tool,
            type="function_call",
        )
        for call in turn.calls
    ]


def _parameter(tool: str) -> str:
    return "input" if tool in ("leaf", "twig") else "item"


def response_of(turn: Turn) -> Response:
    """Return a whole response, as at the end of a stream."""
    return response_of_items(output_of(turn), turn.input_tokens, turn.output_tokens)


def response_of_items(output: list[Any], sent: int, received: int) -> Response:
    """Return a whole response, as at the end of a stream, with its numbers of tokens."""
    return Response(
        id="r", created_at=0, model="scripted", object="response", output=output,
        parallel_tool_calls=True, tool_choice="auto", tools=[],
        usage=ResponseUsage.model_validate(
            {
                "input_tokens": sent,
                "output_tokens": received,
                "total_tokens": sent + received,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": 0},
            }
        ),
    )  # fmt: skip
