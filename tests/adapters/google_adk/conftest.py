"""Settings of the tests of Google ADK."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.asynchronous.programs import Traces


def pytest_configure(config: pytest.Config) -> None:
    """Let ADK announce what is new in it, and what it will remove."""
    texts = (r"\[EXPERIMENTAL\]", ".*is deprecated", "The `plugins` argument is")
    for text in texts:
        config.addinivalue_line("filterwarnings", f"ignore:{text}")


@pytest.fixture(autouse=True)
def _traces(tmp_path: Path) -> Iterator[None]:
    """Write what the scripted models and tools note to files of the test."""
    before = Traces.seen, Traces.ran
    with (tmp_path / "seen").open("w") as seen, (tmp_path / "ran").open("w") as ran:
        Traces.seen, Traces.ran = seen.fileno(), ran.fileno()
        yield
    Traces.seen, Traces.ran = before
