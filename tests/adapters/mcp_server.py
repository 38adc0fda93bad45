"""An MCP server of the official SDK, for tests: over stdio, or on a free port of loopback.

    python mcp_server.py LOG            stdio
    python mcp_server.py LOG PORT_FILE  streamable HTTP; the file will contain the port

It appends the id that a tool was called with to the log, when the tool begins.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import sys
from pathlib import Path
from typing import Annotated

import uvicorn
from mcp.server.mcpserver import Context, Elicit, Image, MCPServer, Resolve, Sample
from mcp.types import CreateMessageResult, SamplingMessage, TextContent
from pydantic import BaseModel

log = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
server = MCPServer("shop", log_level="ERROR")


def note(text: str) -> None:
    os.write(log, f"{text}\n".encode())


class Sure(BaseModel):
    sure: bool


class Size(BaseModel):
    size: int


async def ask() -> Elicit[Sure]:
    return Elicit("Buy it?", Sure)


async def measure() -> Elicit[Size]:
    return Elicit("Which size?", Size)


async def slogan() -> Sample:
    message = SamplingMessage(role="user", content=TextContent(type="text", text="A slogan?"))
    return Sample([message], max_tokens=10)


@server.tool()
async def price(item: str, id: str = "-") -> str:
    """Return the price of an item."""
    note(id)
    await asyncio.sleep(random.random() * 0.02)
    return f"{item} costs {len(item)}"


@server.tool()
async def details(item: str) -> dict[str, list[int | None]]:
    """Return structured data."""
    note("details")
    return {item: [1, None]}


@server.tool()
async def picture() -> Image:
    """Return an image."""
    return Image(data=b"\x00\xff", format="png")


@server.tool()
async def broken() -> str:
    """Fail."""
    note("broken")
    raise ValueError("out of order")


@server.tool()
async def slow(ctx: Context, seconds: float = 0.0) -> str:
    """Report progress, then take a while."""
    for part in (1, 2):
        await ctx.report_progress(part, 2, f"part {part}")
    await asyncio.sleep(seconds)
    return "done"


@server.tool()
async def dies() -> str:
    """End the server."""
    note("dies")
    os._exit(3)


@server.tool()
async def buy(
    item: str,
    ok: Annotated[Sure, Resolve(ask)],
    size: Annotated[Size, Resolve(measure)],
    id: str = "-",
) -> str:
    """Buy an item, after a person has answered two questions."""
    note(id)
    return f"bought {item} {ok.sure} {size.size}"


@server.tool()
async def advertise(text: Annotated[CreateMessageResult, Resolve(slogan)]) -> str:
    """Ask the client's model for a slogan."""
    note("advertise")
    assert isinstance(text.content, TextContent)
    return text.content.text


@server.tool()
async def old(ctx: Context) -> str:
    """Ask a person in the middle of a call, as servers of older protocols do."""
    note("old")
    answer = await ctx.elicit("Sure?", Sure)
    return f"old {answer.action}"


@server.resource("shop://hours")
def hours() -> str:
    """Return the opening hours."""
    note("hours")
    return "9 to 5"


@server.prompt()
def greet(name: str) -> str:
    """Return a greeting."""
    note("greet")
    return f"Greet {name}."


if __name__ == "__main__":
    note(f"start-{os.getpid()}")
    if len(sys.argv) == 2:
        server.run()
    else:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = Path(sys.argv[2])
            port.with_suffix(".part").write_text(str(free.getsockname()[1]))
            port.with_suffix(".part").rename(port)
            app = server.streamable_http_app()
            uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[free])
