"""Flows that call the tools of a real MCP server, for kills and other tests.

The server appends the id of the record that each call will have to the file of `note_run`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult, TextContent

from kitaru import flow
from kitaru.adapters.mcp import KitaruMCPClient
from tests.asynchronous.programs import Traces, see

SERVER = str(Path(__file__).parent / "mcp_server.py")
ANSWERS = {"shop-buy-b1.ask": {"sure": True}, "shop-buy-b1.ask_2": {"size": 4}}


def stdio(log: str) -> Client:
    """Return a client that starts a server."""
    return Client(StdioServerParameters(command=sys.executable, args=[SERVER, log]))


def text(result: CallToolResult) -> str:
    """Return the text of a result."""
    (part,) = result.content
    assert isinstance(part, TextContent)
    return part.text


def _stdio() -> Client:
    return stdio(str(Path(f"/proc/self/fd/{Traces.ran}").readlink()))


started = KitaruMCPClient(_stdio, name="shop")
served = KitaruMCPClient(lambda: Client(os.environ["MCP_URL"]), name="shop")


async def _price(shop: KitaruMCPClient, item: str) -> str:
    id = f"shop-price-{item}.call"
    return text(await shop.call_tool("price", {"item": item, "id": id}, key=item))


async def _shops(shop: KitaruMCPClient) -> list[Any]:
    async with shop:
        tools = await shop.list_tools()
        see(str(len(tools.tools)))
        prices = await asyncio.gather(*[_price(shop, item) for item in ("p1", "p2", "p3")])
        see(str(prices))
        order = {"item": prices[0], "id": "shop-buy-b1.call_2"}
        bought = text(await shop.call_tool("buy", order, key="b1"))
        see(bought)
        return [len(tools.tools), prices, bought, await _price(shop, "p4")]


@flow
async def over_stdio(_: str) -> list[Any]:
    return await _shops(started)


@flow
async def over_http(_: str) -> list[Any]:
    return await _shops(served)


@flow
def in_a_plain_flow(_: str) -> list[Any]:
    return asyncio.run(_shops(served))


PROGRAMS = {
    "over_stdio": (over_stdio, "hi"),
    "over_http": (over_http, "hi"),
    "in_a_plain_flow": (in_a_plain_flow, "hi"),
}
