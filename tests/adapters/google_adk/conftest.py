"""Settings of the tests of Google ADK."""

from __future__ import annotations

import pytest

from tests import forks
from tests.adapters.common import traces

__all__ = ["traces"]

# `google.adk` imports its modules at their first use.
forks.preloaded += ["google.adk.apps", "google.adk.runners"]


def pytest_configure(config: pytest.Config) -> None:
    """Let ADK announce what is new in it, and what it will remove."""
    texts = (r"\[EXPERIMENTAL\]", ".*is deprecated", "The `plugins` argument is")
    for text in texts:
        config.addinivalue_line("filterwarnings", f"ignore:{text}")
