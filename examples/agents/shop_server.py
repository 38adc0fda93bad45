"""An MCP server of a shop: `shop.py` and `shop_plain.py` start it."""

from typing import Annotated

from mcp.server.mcpserver import Elicit, MCPServer, Resolve
from pydantic import BaseModel

server = MCPServer("shop", log_level="ERROR")


class Consent(BaseModel):
    """What a person answers."""

    buy: bool


async def ask(item: str) -> Elicit[Consent]:
    """Ask before something is bought."""
    return Elicit(f"Buy a {item}?", Consent)


@server.tool()
async def price(item: str) -> str:
    """Return the price of an item."""
    return f"A {item} costs 900 USD."


@server.tool()
async def buy(item: str, consent: Annotated[Consent, Resolve(ask)]) -> str:
    """Buy an item."""
    return f"Bought a {item}." if consent.buy else f"Bought no {item}."


if __name__ == "__main__":
    server.run()
