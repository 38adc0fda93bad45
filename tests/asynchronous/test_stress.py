"""Async flows whose processes are killed and resumed; `stress` runs many more."""

from __future__ import annotations

from pathlib import Path

import pytest

from .stress import PROGRAMS, stress


@pytest.mark.parametrize("name", PROGRAMS)
def test_killed_async_flows_continue_where_they_were(name: str, tmp_path: Path) -> None:
    found = stress(name, 1, seed=7, folder=tmp_path, most_kills=3)
    assert found.problems == []
    assert found.ids
