"""Pydantic AI on Kitaru. Needs the extra `pydantic-ai`.

`KitaruDurability` is a capability of an agent. In a flow, it records each model request, tool call
and request to an MCP server once. `KitaruAgent` adds it to an agent that exists already. Outside of
flows, and inside checkpoints, the agent runs as usual.
"""

from kitaru.adapters.pydantic_ai.agent import KitaruAgent
from kitaru.adapters.pydantic_ai.durability import KitaruDurability

__all__ = ["KitaruAgent", "KitaruDurability"]
