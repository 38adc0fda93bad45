"""Clients of MCP servers on Kitaru. Needs the extra `mcp`.

`KitaruMCPClient` is a client of the official SDK. In a flow, it records each call of a tool once,
and waits for a person if the server asks one. Outside of flows, and inside checkpoints, it is the
client of the SDK.
"""

from kitaru.adapters.mcp.client import KitaruMCPClient

__all__ = ["KitaruMCPClient"]
