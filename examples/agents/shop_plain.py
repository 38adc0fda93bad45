"""A client of an MCP server, as people write it: nothing of it survives a crash.

pip install 'mcp>=2'
python examples/agents/shop_plain.py kayak
"""

import sys
from pathlib import Path

from mcp import Client, StdioServerParameters
from mcp.client.session import ClientRequestContext
from mcp_types import ElicitRequestParams, ElicitResult

SERVER = str(Path(__file__).parent / "shop_server.py")


async def ask(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
    return ElicitResult(action="accept", content={"buy": input(params.message) == "yes"})


shop = Client(
    StdioServerParameters(command=sys.executable, args=[SERVER]),
    elicitation_callback=ask,
)


async def order(item: str) -> list[str]:
    async with shop:
        price = await shop.call_tool("price", {"item": item})
        bought = await shop.call_tool("buy", {"item": item})
    return [result.structured_content["result"] for result in (price, bought)]


if __name__ == "__main__":
    import asyncio

    print(asyncio.run(order(sys.argv[1])))
