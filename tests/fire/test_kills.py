"""Real processes killed at store operations of 20 checkpoints, a wait, memory and a fan-out.

This runs a part of `python -m tests.fire kills`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.step.build import end_zygote

from .kills import Place, Tally, kill_all, moments


@pytest.fixture(autouse=True, scope="module")
def no_zygote_is_left() -> Iterator[None]:
    yield
    end_zygote()


def test_killed_anywhere_nothing_is_lost_or_done_again(on_disk: Path) -> None:
    tally = kill_all(Place(on_disk, f"sqlite:{on_disk}/{{}}.db"), moments(first=3, each=11))
    assert tally, tally
    assert tally.kills > 15


def test_the_tally_sees_what_is_wrong() -> None:
    tally = Tally(kills=1, completed=1)
    assert tally
    before, after = ({"a": b"1", "b": b"2"}, {"x"}), ({"a": b"9"}, {"x"})
    tally.add(before, after, Counter(x=1), "before:1")
    assert (tally.lost, tally.changed, tally.called_again) == (1, 1, 1)
    assert not tally and tally.problems[0][0] == "before:1"
