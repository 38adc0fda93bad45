"""Flows that run agents of Pydantic AI with scripted models, for kills and other tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any

from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.messages import (
    AgentStreamEvent,
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.usage import UsageLimits

from kitaru import checkpoint, flow
from kitaru.adapters.pydantic_ai import KitaruAgent, KitaruDurability
from tests.asynchronous.programs import nap, note_run, see

Calls = list[tuple[str, dict[str, Any]]]


def scripted(turns: Callable[[int, list[ModelMessage]], Calls | str]) -> FunctionModel:
    """Return a model whose answer in each turn is tool calls or a text."""

    async def answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        note_run()
        await nap()
        turn = sum(isinstance(message, ModelResponse) for message in messages)
        found = turns(turn, messages)
        if isinstance(found, str):
            return ModelResponse(parts=[TextPart(found)], finish_reason="stop")
        return ModelResponse(
            parts=[
                ToolCallPart(name, args, tool_call_id=f"t{turn}c{number}")
                for number, (name, args) in enumerate(found)
            ]
        )

    async def pieces(
        messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        whole = await answer(messages, info)
        for number, part in enumerate(whole.parts):
            if isinstance(part, ToolCallPart):
                delta = DeltaToolCall(
                    part.tool_name, part.args_as_json_str(), tool_call_id=part.tool_call_id
                )
                yield {number: delta}
            elif isinstance(part, TextPart):
                for word in part.content.split():
                    yield f"{word} "

    return FunctionModel(answer, stream_function=pieces)


def returns(messages: list[ModelMessage]) -> str:
    """Return the results of the last tool calls."""
    return "+".join(
        str(getattr(part, "content", ""))
        for part in messages[-1].parts
        if hasattr(part, "tool_name")
    )


# Parallel tools, a tool that asks the model to retry, a checkpoint as tool, an agent as tool.


def _plan(turn: int, messages: list[ModelMessage]) -> Calls | str:
    if turn == 0:
        return [
            *[("weather", {"city": city}) for city in ("Oslo", "Rome", "Bern")],
            ("stock", {"item": "coat"}),
            ("research", {"topic": "snow"}),
            ("picky", {"n": 1}),
        ]
    if turn == 1:
        return [("picky", {"n": 2}), ("weather", {"city": "Oslo"})]
    return f"done {returns(messages)}"


helper: Agent[None, str] = Agent(
    scripted(lambda turn, seen: [("look", {})] if turn == 0 else f"found {returns(seen)}"),
    name="helper",
    capabilities=[KitaruDurability()],
)


@helper.tool_plain
async def look() -> str:
    note_run()
    await nap()
    return "tracks"


agent: Agent[None, str] = Agent(scripted(_plan), name="triage")


@agent.tool_plain
async def weather(city: str) -> str:
    note_run()
    await nap()
    return f"{city} is cold"


@checkpoint(cache=False)
def stock(item: str) -> int:
    """Return how many there are."""
    note_run()
    return len(item)


agent.tool_plain(stock)


@agent.tool(metadata={"kitaru": False})
async def research(ctx: RunContext[None], topic: str) -> str:
    found = await asyncio.gather(*[helper.run(f"{topic} {n}", usage=ctx.usage) for n in range(2)])
    return " ".join(one.output for one in found)


@agent.tool_plain(retries=2)
async def picky(n: int) -> str:
    note_run()
    await nap()
    if n == 1:
        raise ModelRetry("Take two.")
    return "two"


durable = KitaruAgent(agent)


@flow
async def tools(question: str) -> list[Any]:
    result = await durable.run(question)
    see(result.output)
    return [result.output, result.usage.requests, result.usage.tool_calls]


@flow
def tools_in_a_plain_flow(question: str) -> list[Any]:
    out = []
    for _ in range(2):
        result = durable.run_sync(question)
        see(result.output)
        out += [result.output, result.usage.requests]
    return out


@flow
async def two_agents(question: str) -> list[Any]:
    """The same agent twice, and another one, side by side; then a turn with the history."""

    async def one(text: str) -> Any:
        return await helper.run(text)

    results = await asyncio.gather(one("a"), one("b"), durable.run(question))
    last = await helper.run("again", message_history=results[0].all_messages())
    see(last.output)
    limited = ""
    try:
        await helper.run("limited", usage_limits=UsageLimits(request_limit=1))
    except Exception as error:
        limited = type(error).__name__
    return [*[one.output for one in results], last.output, limited]


# Streams


@flow
async def streams(question: str) -> list[Any]:
    pieces = []
    async with durable.run_stream(question) as stream:
        async for piece in stream.stream_text(delta=True):
            pieces.append(piece)
            see(piece)
    nodes = []
    async with durable.iter(question) as run:
        async for node in run:
            nodes.append(type(node).__name__)
            see(nodes[-1])
    assert run.result is not None
    return [pieces, nodes, run.result.output]


async def watch(_: RunContext[None], seen: AsyncIterable[AgentStreamEvent]) -> None:
    async for _event in seen:
        await nap(1)


watched = KitaruAgent(agent, KitaruDurability(event_stream_handler=watch))


@flow
async def events(question: str) -> list[Any]:
    """A handler that gets the events of several parallel tools, each once."""
    result = await watched.run(question)
    see(result.output)
    return [result.output, result.usage.requests]


# Approvals and external tools


def _asks(turn: int, messages: list[ModelMessage]) -> Calls | str:
    if turn == 0:
        return [
            ("delete", {"name": "a"}),
            ("delete", {"name": "b"}),
            ("weather", {"city": "Oslo"}),
            ("guarded", {"n": 1}),
        ]
    return f"done {returns(messages)}"


careful: Agent[None, str] = Agent(scripted(_asks), name="careful")
careful.tool_plain(weather)


@careful.tool_plain(requires_approval=True)
async def delete(name: str) -> str:
    note_run()
    await nap()
    return f"deleted {name}"


@careful.tool
async def guarded(ctx: RunContext[None], n: int) -> str:
    from pydantic_ai import ApprovalRequired

    note_run()
    if not ctx.tool_call_approved:
        raise ApprovalRequired(metadata={"n": n})
    return f"guarded {n}"


careful_durable = KitaruAgent(careful)


@flow
async def approvals(question: str) -> list[Any]:
    result = await careful_durable.run(question)
    see(result.output)
    return [result.output, result.usage.requests]


ANSWERS = {
    "careful.approve-delete-t0c0": True,
    "careful.approve-delete-t0c1": False,
    "careful.approve-guarded-t0c3": True,
}

PROGRAMS: dict[str, tuple[Any, Any]] = {
    "tools": (tools, "hi"),
    "tools_in_a_plain_flow": (tools_in_a_plain_flow, "hi"),
    "two_agents": (two_agents, "hi"),
    "streams": (streams, "hi"),
    "events": (events, "hi"),
    "approvals": (approvals, "hi"),
}
