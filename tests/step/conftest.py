"""Fixtures of the step tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.step.build import end_zygote


@pytest.fixture(scope="session", autouse=True)
def _no_process_left() -> Iterator[None]:
    yield
    end_zygote()
