"""Stores of earlier releases: they open, they are verified, and their executions continue."""

from __future__ import annotations

import gzip
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from kitaru.client import KitaruClient
from kitaru.ops.backup import backup
from kitaru.ops.verify import verify
from kitaru.stores.sqlite import SqliteStore
from kitaru.stores.sqlite_file import WITNESS

from . import released

RELEASES = sorted(Path(__file__).parent.glob("releases/*.db.gz"))


@pytest.fixture(params=RELEASES, ids=lambda path: path.name)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "k.db"
    with gzip.open(request.param) as packed, path.open("wb") as file:
        shutil.copyfileobj(packed, file)
    return path


def test_there_are_releases() -> None:
    assert [path.name for path in RELEASES][:1] == ["0.1.0.db.gz"]


def test_an_execution_continues(path: Path) -> None:
    released.calls.clear()
    client = KitaruClient(f"sqlite:{path}")
    ended = client.executions.get("released-0")
    assert (ended.status, ended.result) == ("completed", [])
    assert client.executions.get(released.EXEC).status == "waiting"
    assert client.memory.get("topic", scope="flow:review") == "kayaks"
    # The file of its flow is not on this machine, so the answer alone is recorded here.
    client.executions.input(released.EXEC, True)
    handle = released.review.resume(released.EXEC, store=client.store)
    assert handle.wait() == released.RESULT
    assert dict(released.calls) == {"publish": 1}, "what was recorded ran again"
    client.store.close()


def test_it_gets_the_second_index_and_stays_readable(path: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        before = connection.execute("SELECT * FROM object ORDER BY key").fetchall()
    with closing(SqliteStore(path)) as store:
        assert not verify(store).findings
        backup(store, f"sqlite:{tmp_path}/copy.db")
    for each in (path, tmp_path / "copy.db"):
        with closing(sqlite3.connect(each)) as connection:
            names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
            assert WITNESS in names
            # The statements that an earlier release sends.
            assert connection.execute("SELECT * FROM object ORDER BY key").fetchall() == before
            connection.execute("INSERT OR IGNORE INTO object VALUES ('new/key', x'00')")
            connection.commit()
        with closing(SqliteStore(each)) as store:
            assert store.get("new/key") == b"\0"
            assert store.list("new/") == ["new/key"]
