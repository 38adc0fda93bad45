"""A durable client of an MCP server: compare it with `shop_plain.py`.

    pip install 'mcp>=2'
    python examples/agents/shop.py kayak

Each call of a tool is recorded once. The server asks before it sells. The process may end until a
person answers, and `kitaru executions input` continues the execution.
"""

import sys
from pathlib import Path

from mcp import Client, StdioServerParameters

from kitaru import flow
from kitaru.adapters.mcp import KitaruMCPClient

SERVER = str(Path(__file__).parent / "shop_server.py")

shop = KitaruMCPClient(
    Client(StdioServerParameters(command=sys.executable, args=[SERVER])),
    name="shop",
)


@flow
async def order(item: str) -> list[str]:
    async with shop:
        price = await shop.call_tool("price", {"item": item})
        bought = await shop.call_tool("buy", {"item": item})
    return [result.structured_content["result"] for result in (price, bought)]


if __name__ == "__main__":
    print(order.run(sys.argv[1]).wait())
