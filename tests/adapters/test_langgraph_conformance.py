"""LangChain's agents against the conformance kit for adapters."""

from __future__ import annotations

import pytest

pytest.importorskip("langchain")

from kitaru.testing.adapters import AdapterTests

from .langgraph_harness import LangChain


class TestLangChain(AdapterTests):
    """The kit's tests."""

    harness = LangChain
    seeds = 1
