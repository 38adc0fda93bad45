"""A small agent loop whose tools are those of an MCP server, for the conformance kit.

The server runs in the process of the flow, as `Client(server)` does, so that the kit can end both
in the middle of a tool. `mcp_programs` uses servers in processes of their own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Annotated, Any, ClassVar

from mcp import Client
from mcp.server.mcpserver import Elicit, MCPServer, Resolve
from mcp_types import CallToolResult
from pydantic import BaseModel

from kitaru import harness
from kitaru.adapters.mcp import KitaruMCPClient
from kitaru.testing.adapters import Agent, Call, Feature, Outcome, Tool, Turn
from kitaru.wire.records import WaitRequest

from .loop_harness import Loop


class Sure(BaseModel):
    sure: bool


async def ask() -> Elicit[Sure]:
    return Elicit("Is this approved?", Sure)


class MCP(Loop):
    packages = ("mcp", "mcp_types")
    names: ClassVar[frozenset[str]] = frozenset({"call", "model"})
    unsupported: ClassVar[Mapping[Feature, str]] = {
        "guard": "A server has no guardrails.",
        "nested": "A server has no agents.",
        "own_calls": "A tool runs in the process of its server, which has no flow.",
        "session": "Servers keep no conversations.",
        "state": "A tool runs in the process of its server, apart from the state of a run.",
        "versions": "The format of its results is that of the protocol.",
    }

    def __init__(self) -> None:
        # The SDK imports much at its first call. Otherwise each fork of the kit would import it.
        asyncio.run(_call_once())

    async def run(
        self,
        agent: Agent,
        prompt: str,
        *,
        state: dict[str, Any] | None = None,
        session: str | None = None,
    ) -> Outcome:
        client = KitaruMCPClient(Client(_server(agent)), name="tools")
        used = _WithServer(client)
        in_flow = harness.current_execution() is not None
        with harness.scope(agent.name) if in_flow else nullcontext():
            async with client:
                return Outcome(*await used.talk(agent, state), state)

    def run_sync(self, agent: Agent, prompt: str) -> Outcome:
        return asyncio.run(self.run(agent, prompt))

    async def stream(self, agent: Agent, prompt: str) -> AsyncIterator[str]:
        for word in (await self.run(agent, prompt)).text.split():
            yield f"{word} "

    def messages(self) -> Iterable[tuple[str, Any, Any]]:
        contents: dict[str, Any] = {
            "text": {"type": "text", "text": "héllo", "_meta": {"a": None}},
            "image": {"type": "image", "data": "AAE=", "mimeType": "image/png"},
            "audio": {"type": "audio", "data": "AAE=", "mimeType": "audio/wav"},
            "link": {"type": "resource_link", "uri": "a://b", "name": "b", "size": 1},
            "resource": {"type": "resource", "resource": {"uri": "a://b", "blob": "AAE="}},
        }
        for name, content in contents.items():
            yield name, *_recorded({"content": [content], "isError": False})
        yield "structured", *_recorded({"content": [], "structuredContent": {"a": [None, 1.5]}})
        yield "null", *_recorded({"content": [], "structuredContent": None})
        yield "error", *_recorded({"content": [], "isError": True, "_meta": {"x": 1}})

    def answer(self, request: WaitRequest, yes: bool) -> Any:
        return {"sure": yes}


def _recorded(wire: dict[str, Any]) -> tuple[CallToolResult, Any]:
    from kitaru.adapters.mcp.exchanges import as_json, result_of

    message = CallToolResult.model_validate(wire)
    return message, result_of(json.loads(json.dumps(as_json(message))), CallToolResult)


class _WithServer(Loop):
    """The loop inside a run: its model's requests are steps, its tools those of the server."""

    def __init__(self, client: KitaruMCPClient) -> None:
        self._client = client

    async def step_of_model(self, agent: Agent, answered: list[str]) -> Turn:
        if harness.current_execution() is None:
            return await agent.respond(answered)
        return await super().step_of_model(agent, answered)

    async def use(self, agent: Agent, call: Call, state: dict[str, Any] | None) -> int:
        result = await self._client.call_tool(call.tool, {"item": call.item}, key=call.id)
        assert not result.is_error, result
        return 0


def _server(agent: Agent) -> MCPServer:
    server = MCPServer(agent.name, log_level="ERROR")
    for tool in agent.tools:
        server.add_tool(_function(tool), name=tool.name)
    return server


def _function(tool: Tool) -> Callable[..., Any]:
    if tool.approval:

        async def approved(item: str, answer: Annotated[Sure, Resolve(ask)]) -> str:
            return await _text(tool.function(item)) if answer.sure else "refused"

        return approved
    return tool.function


async def _text(result: Awaitable[str]) -> str:
    return await result


async def _call_once() -> None:
    async def nothing() -> str:
        return ""

    server = MCPServer("nothing", log_level="ERROR")
    server.add_tool(nothing)
    async with Client(server) as client:
        await client.call_tool("nothing")
