"""A client of an MCP server whose requests are steps, and whose questions are waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from weakref import WeakKeyDictionary

from mcp import Client, MCPError
from mcp.shared.dispatcher import ProgressFnT
from mcp_types import (
    HEADER_MISMATCH,
    CallToolResult,
    CompleteResult,
    GetPromptResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PromptReference,
    ReadResourceResult,
    ResourceTemplateReference,
)

from kitaru import harness
from kitaru.adapters.mcp.connection import Connection
from kitaru.adapters.mcp.exchanges import Exchange, R, Send
from kitaru.errors import UsageError


class KitaruMCPClient:
    """A client of an MCP server that records its calls in flows.

    Each call of a tool is one record, and so is each list of tools, read of a resource, and prompt.
    Results with `is_error` are results. The ids begin with the name of the client and the tool:
    `shop-price.call`, `shop-price_2.call`.

    If the server asks a person (elicitation), the flow waits for the answer: JSON of the schema
    that the server sends, or null to decline. If the client has an `elicitation_callback`, it
    answers instead, as part of the call; so do its `sampling_callback` and `list_roots_callback`.
    A question that the client has no callback for is refused.

    It connects when the first call needs it, and again after the server died. A replay that makes
    no call starts no server. On Linux, a server over stdio ends with the process of the flow.

    Args:
        client: a client of the SDK that is not entered, or a function that returns a new one, for a
            transport that can be entered only once.
        name: name of the server in ids.

    Example:
        shop = KitaruMCPClient(Client("https://shop.example/mcp"), name="shop")

        @flow
        async def price(item: str) -> str:
            async with shop:
                result = await shop.call_tool("price", {"item": item})
            return result.content[0].text
    """

    def __init__(self, client: Client | Callable[[], Client], *, name: str) -> None:
        self.name = harness.clean(name)
        self._client = client
        self._connections: WeakKeyDictionary[asyncio.AbstractEventLoop, Connection] = (
            WeakKeyDictionary()
        )

    async def __aenter__(self) -> KitaruMCPClient:
        """Allow calls. Nothing is connected yet. Blocks may be nested, or run side by side."""
        loop = asyncio.get_running_loop()
        connection = self._connections.setdefault(loop, Connection(self._client))
        connection.users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect at the end of the last block of this event loop."""
        connection = self._connection()
        connection.users -= 1
        if not connection.users:
            del self._connections[asyncio.get_running_loop()]
            await connection.close()

    # Requests

    def call_tool(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        read_timeout_seconds: float | None = None,
        progress_callback: ProgressFnT | None = None,
        *,
        key: str | None = None,
    ) -> Coroutine[Any, Any, CallToolResult]:
        """Call a tool once.

        Args:
            name: name of the tool.
            arguments: its arguments.
            read_timeout_seconds: maximum seconds for each request. Default: the client's.
            progress_callback: receives the progress live. A replay reports none.
            key: the id of the call that a model gave it, as a part of the record's id. Default:
                calls of a tool are numbered.

        Raises:
            MCPError: the server reports an error, does not answer in time, or died. An error of the
                tool itself is a result with `is_error`.
            UsageError: the server asks a person in the middle of a call, which only clients with an
                `elicitation_callback` can answer.
        """

        async def send(client: Client, responses: Any, state: str | None) -> Any:
            return await client.session.call_tool(
                name,
                arguments,
                read_timeout_seconds,
                progress_callback,
                input_responses=responses,
                request_state=state,
                allow_input_required=True,
            )

        async def with_headers(client: Client, responses: Any, state: str | None) -> Any:
            try:
                return await send(client, responses, state)
            except MCPError as error:
                if error.code != HEADER_MISMATCH:
                    raise
            # The headers of a call come from the last list of the tools.
            await _list_all(client)
            return await send(client, responses, state)

        return self._request(
            name, with_headers, CallToolResult, kind="tool", key=key, arguments=arguments
        )

    def list_tools(self, *, cursor: str | None = None) -> Coroutine[Any, Any, ListToolsResult]:
        """List the tools: what a model was offered is recorded."""
        return self._read("tools", ListToolsResult, lambda one: one.list_tools(cursor=cursor))

    def list_resources(
        self, *, cursor: str | None = None
    ) -> Coroutine[Any, Any, ListResourcesResult]:
        """List the resources."""
        return self._read(
            "resources", ListResourcesResult, lambda one: one.list_resources(cursor=cursor)
        )

    def list_resource_templates(
        self, *, cursor: str | None = None
    ) -> Coroutine[Any, Any, ListResourceTemplatesResult]:
        """List the templates of resources."""
        return self._read(
            "templates",
            ListResourceTemplatesResult,
            lambda one: one.list_resource_templates(cursor=cursor),
        )

    def list_prompts(self, *, cursor: str | None = None) -> Coroutine[Any, Any, ListPromptsResult]:
        """List the prompts."""
        return self._read("prompts", ListPromptsResult, lambda one: one.list_prompts(cursor=cursor))

    def read_resource(
        self, uri: str, *, key: str | None = None
    ) -> Coroutine[Any, Any, ReadResourceResult]:
        """Read a resource once."""

        async def send(client: Client, responses: Any, state: str | None) -> Any:
            return await client.session.read_resource(
                uri, input_responses=responses, request_state=state, allow_input_required=True
            )

        return self._request("resource", send, ReadResourceResult, key=key, arguments={"uri": uri})

    def get_prompt(
        self, name: str, arguments: dict[str, str] | None = None, *, key: str | None = None
    ) -> Coroutine[Any, Any, GetPromptResult]:
        """Get a prompt once."""

        async def send(client: Client, responses: Any, state: str | None) -> Any:
            return await client.session.get_prompt(
                name,
                arguments,
                input_responses=responses,
                request_state=state,
                allow_input_required=True,
            )

        return self._request(f"prompt-{name}", send, GetPromptResult, key=key, arguments=arguments)

    def complete(
        self,
        ref: ResourceTemplateReference | PromptReference,
        argument: dict[str, str],
        context_arguments: dict[str, str] | None = None,
    ) -> Coroutine[Any, Any, CompleteResult]:
        """Return completions for an argument of a prompt or of a template."""
        return self._read(
            "complete", CompleteResult, lambda one: one.complete(ref, argument, context_arguments)
        )

    # How they are made

    def _read(
        self, name: str, returns: type[R], read: Callable[[Client], Awaitable[R]]
    ) -> Coroutine[Any, Any, R]:
        async def send(client: Client, _: Any, __: str | None) -> R:
            return await read(client)

        return self._request(name, send, returns)

    def _request(
        self,
        name: str,
        send: Send[R],
        returns: type[R],
        *,
        kind: harness.StepKind = "agent",
        key: str | None = None,
        arguments: dict[str, Any] | None = None,
    ) -> Coroutine[Any, Any, R]:
        """Take the id of a request now; return the coroutine that makes it."""
        exchange = Exchange(self._connection(), send, returns)
        if harness.current_execution() is None:
            return exchange.outside()
        label = f"{self.name}-{name}"
        scope = harness.scope(label, key=None if key is None else f"{label}-{key}")
        return exchange.inside(scope, kind, arguments)

    def _connection(self) -> Connection:
        found = self._connections.get(asyncio.get_running_loop())
        if found is None:
            raise UsageError(
                f'The MCP client "{self.name}" is used outside of its block.',
                help="Make its calls inside `async with client:`.",
            )
        return found


async def _list_all(client: Client) -> None:
    page = await client.list_tools(cache_mode="refresh")
    while page.next_cursor is not None:
        page = await client.list_tools(cursor=page.next_cursor, cache_mode="refresh")
