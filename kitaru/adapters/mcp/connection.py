"""Connections to an MCP server, each owned by one task."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from dataclasses import replace

from mcp import Client, StdioServerParameters
from mcp.client.session import ClientRequestContext
from mcp_types import INVALID_REQUEST, ElicitRequestParams, ElicitResult, ErrorData

from kitaru.adapters.child_processes import bound_command


class Connection:
    """A client that is connected when the first call needs it, and again after the server died.

    A task of its own enters and leaves the client: the task groups of anyio belong to one task, and
    each durable call may run in another one. `users` is the number of open `async with` blocks,
    `refusals` that of questions in the middle of a call.
    """

    def __init__(self, client: Client | Callable[[], Client]) -> None:
        self._client = client
        self._held: _Held | None = None
        self.users = self.refusals = 0

    async def client(self) -> Client:
        """Return the connected client."""
        if self._held is None or self._held.task.done():
            self._held = _Held(self._new())
        held = self._held
        try:
            # A call that is cancelled does not end the connection of the others.
            return await asyncio.shield(held.ready)
        except BaseException:
            if held.task.done():
                self.drop(held.client)
            raise

    def drop(self, client: Client) -> None:
        """Forget a client whose server is gone. The next call connects again."""
        if self._held is not None and self._held.client is client:
            self._held.stop.set()
            self._held = None

    async def close(self) -> None:
        """Disconnect, and end a server that was started."""
        held, self._held = self._held, None
        if held is not None:
            held.stop.set()
            await asyncio.wait([held.task])

    async def refuse(
        self, context: ClientRequestContext, params: ElicitRequestParams
    ) -> ElicitResult | ErrorData:
        """Refuse a question, as the SDK does without a callback."""
        self.refusals += 1
        return ErrorData(code=INVALID_REQUEST, message="Elicitation not supported")

    def _new(self) -> Client:
        """Return a client that is not entered."""
        client = self._client() if callable(self._client) else self._client
        # Without a callback, it would declare that nobody can be asked.
        client = replace(client, elicitation_callback=client.elicitation_callback or self.refuse)
        server = client.server
        if not isinstance(server, StdioServerParameters):
            return client
        command, *arguments = bound_command(server.command, server.args)
        bound = server.model_copy(update={"command": command, "args": arguments})
        return replace(client, server=bound)


class _Held:
    def __init__(self, client: Client) -> None:
        self.client = client
        self.stop = asyncio.Event()
        self.ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        # The context of the call that connects would make callbacks part of that call.
        self.task = asyncio.get_running_loop().create_task(
            self._hold(), context=contextvars.Context()
        )

    async def _hold(self) -> None:
        try:
            async with self.client:
                self.ready.set_result(self.client)
                await self.stop.wait()
        except BaseException as error:
            if not self.ready.done():
                self.ready.set_exception(_single(error))
            if not isinstance(error, Exception):
                raise


def _single(error: BaseException) -> BaseException:
    """Return the error in the groups that task groups put around it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
