"""What a disk may refuse at any moment of an execution: bytes, or one more open file."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from kitaru.errors import EnvironmentFailure, StoreDenied
from kitaru.stores.sqlite import SqliteStore

from . import refusing
from .filling import STEPS


@pytest.fixture
def tmp_path(on_disk: Path) -> Path:
    return on_disk


def test_files_that_may_not_grow_and_then_may(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.stores.filling", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for one in found:
        assert [number for number, _ in one["result"]] == list(range(STEPS))
        # What was recorded did not run again; at most the one in flight did.
        assert one["calls"] in (STEPS, STEPS + 1)
        assert one["held"] == STEPS or one["full"]
    assert {bool(one["full"]) for one in found} == {True, False}
    assert len({one["held"] for one in found}) > 5


@pytest.mark.skipif(not refusing.NUMBERS, reason="only Linux refuses a process its calls")
def test_a_disk_that_fails_a_sync_or_a_write_or_is_full(tmp_path: Path) -> None:
    """The kernel rejects the calls from each checkpoint on. Another process resumes with a disk."""
    command = [sys.executable, "-m", "tests.stores.refusing", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == len(refusing.FAILURES) * refusing.STEPS
    for one in found:
        cause = "full" if "space" in one["failure"] else "I/O error"
        assert one["first"].startswith("3: The store") and cause in one["first"], one
        assert one["second"] == sum(range(refusing.STEPS))
        again = Counter(one["calls"]) - Counter(range(refusing.STEPS))
        # What waited for a sync that failed may be there; what could not be written runs again.
        assert again == Counter([one["at"]]) or (not again and "sync" in one["failure"])


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


@contextmanager
def nobody() -> Iterator[None]:
    """Be nobody for a while: root may write what is read-only."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that anybody may look into, unlike those of other tests."""
    with TemporaryDirectory() as name:
        made = Path(name)
        made.chmod(0o755)
        yield made
        made.chmod(0o755)


@pytest.mark.parametrize(("file", "around"), [(0o444, 0o777), (0o666, 0o555), (0o444, 0o555)])
def test_what_may_only_be_read_is_denied_not_absent(folder: Path, file: int, around: int) -> None:
    path = folder / "store" / "kitaru.db"
    with closing(SqliteStore(path)) as store:
        assert store.create("a", b"1")
    path.chmod(file)
    path.parent.chmod(around)
    with (
        nobody(),
        pytest.raises(StoreDenied, match="may not be"),
        closing(SqliteStore(path)) as mine,
    ):
        mine.create("b", b"2")
    path.parent.chmod(0o755)
    path.chmod(0o644)
    with closing(SqliteStore(path)) as store:
        assert store.list("") == ["a"]


def test_a_directory_that_may_not_be_written_gets_no_store(folder: Path) -> None:
    folder.chmod(0o555)
    with nobody(), pytest.raises(StoreDenied):
        SqliteStore(folder / "kitaru.db")
    assert not list(folder.iterdir())
