"""Real processes killed at store operations of 20 checkpoints, a wait, memory and a fan-out.

A part of what `python -m tests.fire kills` tries.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.step.build import end_zygote

from .kills import Place, kill_all, moments


@pytest.fixture(autouse=True, scope="module")
def no_zygote_is_left() -> Iterator[None]:
    yield
    end_zygote()


def test_killed_anywhere_nothing_is_lost_or_done_again(tmp_path: Path) -> None:
    tally = kill_all(Place(tmp_path, f"sqlite:{tmp_path}/{{}}.db"), moments(first=3, each=11))
    assert tally, tally
    assert tally.kills > 15
