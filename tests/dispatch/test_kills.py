"""Real processes are killed; the long form is `python -m tests.dispatch.kills 200`."""

from __future__ import annotations

from pathlib import Path

from tests.dispatch.kills import kill


def test_nothing_is_lost_or_done_twice_or_left_behind(tmp_path: Path) -> None:
    done = kill(12, 4, tmp_path)
    assert done.kills.total() >= 12
    assert (done.wrong, done.twice, done.left) == ([], [], [])
