"""Tools of an MCP server pass the conformance kit."""

from __future__ import annotations

import pytest

pytest.importorskip("mcp")

from kitaru.testing.adapters import AdapterTests

from . import mcp_harness


@pytest.mark.slow
class TestMCP(AdapterTests):
    harness = mcp_harness.MCP
    seeds = 1
