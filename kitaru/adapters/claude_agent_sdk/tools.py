"""Tools that run in this process, and the calls of tools in a run.

A call has one record. In the process that sees the call first, the command line tool starts it. A
later process that finds no record waits until the model makes the call again:

    seen   -> started or ended -> recorded -> answered
    known  -> made again       -> recorded -> answered
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from claude_agent_sdk import SdkMcpTool, create_sdk_mcp_server

from kitaru import harness

Tools = Mapping[str, Sequence[SdkMcpTool[Any]]]
"""Tools by the name of their server."""
_IN_FLOW = "_kitaru_in_flow"
_LOST: dict[str, Any] = {
    "content": [{"type": "text", "text": "The call was interrupted. Its outcome is unknown."}],
    "is_error": True,
}


def flow_tool(tool: SdkMcpTool[Any]) -> SdkMcpTool[Any]:
    """Mark a tool that makes durable calls itself, and so runs in the flow's body.

    Such a tool calls checkpoints, `kitaru.wait` or another agent. It has no record of its own: when
    the execution resumes, its code runs again, and its durable calls return what is recorded. A
    tool whose function is a checkpoint needs no mark.

    Example:
        @flow_tool
        @tool("ask", "Ask a person.", {"question": str})
        async def ask(arguments: dict[str, Any]) -> dict[str, Any]:
            said = await aio.wait(name="person", question=arguments["question"], schema=str)
            return {"content": [{"type": "text", "text": said}]}
    """
    marked = copy.copy(tool)
    setattr(marked, _IN_FLOW, True)
    return marked


def makes_durable_calls(tool: SdkMcpTool[Any]) -> bool:
    """Return whether a tool runs in the flow's body, and not in a step."""
    return bool(getattr(tool, _IN_FLOW, False)) or harness.is_checkpoint(tool.handler)


def by_full_name(tools: Tools) -> dict[str, SdkMcpTool[Any]]:
    """Return the tools by the names that the model sees, such as `mcp__shop__buy`."""
    return {f"mcp__{server}__{one.name}": one for server, found in tools.items() for one in found}


def servers(
    tools: Tools, invoke: Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]] | None = None
) -> dict[str, Any]:
    """Return the servers of the tools. `invoke` gets the full name and the arguments of a call."""

    def wrapped(server: str, one: SdkMcpTool[Any]) -> SdkMcpTool[Any]:
        if invoke is None:
            return one
        name, passed = f"mcp__{server}__{one.name}", invoke

        async def handler(arguments: dict[str, Any]) -> dict[str, Any]:
            return await passed(name, arguments)

        return replace(one, handler=handler)

    return {
        server: create_sdk_mcp_server(server, tools=[wrapped(server, one) for one in found])
        for server, found in tools.items()
    }


async def outcome(tool: SdkMcpTool[Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return what a tool returns. An exception is a result as well, as in the SDK."""
    try:
        value: dict[str, Any] = await tool.handler(arguments)
    except Exception as error:
        return {"content": [{"type": "text", "text": str(error)}], "is_error": True}
    return value


class Call:
    """A call of a tool: its id, its full name, its arguments, and what became of it.

    Attributes:
        start: None when the tool is to run in this process, or the outcome of a call that has ended
            elsewhere.
        answer: the recorded outcome.
        is_settled: whether the outcome is recorded, or the call waits to be made again.
    """

    def __init__(self, id: str, name: str, arguments: dict[str, Any]) -> None:
        self.id, self.name, self.arguments = id, name, arguments
        loop = asyncio.get_running_loop()
        self.start: asyncio.Future[dict[str, Any] | None] = loop.create_future()
        self.answer: asyncio.Future[dict[str, Any]] = loop.create_future()
        self.is_settled = asyncio.Event()

    def begin(self, ended: dict[str, Any] | None = None) -> None:
        """Let the call run here, or give it the outcome that it had elsewhere."""
        if not self.start.done():
            self.start.set_result(ended)

    def record(self, value: dict[str, Any]) -> None:
        """Note the recorded outcome."""
        self.answer.set_result(value)
        self.is_settled.set()

    def text(self) -> str:
        """Return a line that tells a model what became of the call."""
        value = self.answer.result()
        content = value.get("content")
        parts = content if isinstance(content, list) else [{"type": "text", "text": str(content)}]
        texts = [str(part.get("text", f"[{part.get('type')}]")) for part in parts]
        failed = "failed" if value.get("is_error") else "returned"
        return f"{self.name}({json.dumps(self.arguments)}), {self.id}, {failed}:\n{''.join(texts)}"


class Calls:
    """The calls of a run, oldest first."""

    def __init__(self) -> None:
        self._found: dict[str, Call] = {}

    def add(self, id: str, name: str, arguments: dict[str, Any]) -> Call:
        """Add a call, or return it if its id is known."""
        return self._found.setdefault(id, Call(id, name, arguments))

    def get(self, id: str) -> Call | None:
        """Return the call of an id."""
        return self._found.get(id)

    def all(self) -> list[Call]:
        """Return the calls."""
        return list(self._found.values())

    async def settle(self) -> None:
        """Wait until each call has an outcome, or waits to be made again."""
        for call in self.all():
            await call.is_settled.wait()

    def lose(self) -> None:
        """End the calls that were interrupted and not made again."""
        for call in self.all():
            call.begin(_LOST)
