"""The OpenAI Agents SDK against the conformance kit for adapters."""

from __future__ import annotations

import pytest

pytest.importorskip("agents")

from kitaru.testing.adapters import AdapterTests
from tests.adapters.kills import KILLS

from .scripted import OpenAIAgents


class TestOpenAIAgents(AdapterTests):
    """The kit's tests."""

    harness = OpenAIAgents
    seeds = 1
    calls = KILLS
