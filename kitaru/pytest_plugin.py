"""The pytest plugin: the fixture `flow_test`. pytest loads it wherever Kitaru is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kitaru.testing import FlowTest


@pytest.fixture
def flow_test() -> Iterator[FlowTest]:
    """Run flows with an empty store, scripted models and answers: see `kitaru.testing.FlowTest`."""
    # Tests that do not use it do not pay for the import.
    from kitaru.testing import FlowTest

    with FlowTest() as test:
        yield test
