"""What a disk may refuse at any moment of an execution: bytes, or one more open file."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from kitaru.errors import EnvironmentFailure
from kitaru.stores.sqlite import SqliteStore

from .filling import STEPS


def test_files_that_may_not_grow_and_then_may(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.stores.filling", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for one in found:
        assert [number for number, _ in one["result"]] == list(range(STEPS))
        # What was recorded did not run again; at most the one in flight did.
        assert one["calls"] in (STEPS, STEPS + 1)
        assert one["held"] == STEPS or one["full"]
    assert {bool(one["full"]) for one in found} == {True, False}
    assert len({one["held"] for one in found}) > 5


@pytest.mark.parametrize("fresh", [True, False])
def test_too_many_open_files_is_told_as_one_cause(tmp_path: Path, fresh: bool) -> None:
    path = tmp_path / "kitaru.db"
    if not fresh:
        SqliteStore(path).close()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Every number below the limit is taken: whatever is opened now is one too many.
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, hard))
    try:
        with pytest.raises(EnvironmentFailure) as told:
            SqliteStore(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for one in taken:
            os.close(one)
    assert "open files" in f"{told.value.message} {told.value.help}"
    SqliteStore(path).close()
