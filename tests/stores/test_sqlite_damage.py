"""Damage of a SQLite store is reported. It never makes a record look absent."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest

from kitaru.errors import RecordCorrupt
from kitaru.stores import sqlite, sqlite_damage
from kitaru.stores.sqlite import SqliteStore
from kitaru.stores.sqlite_file import INDEX, WITNESS

from . import damaging

# `python -m tests.stores.damaging --count N` tries more.
FAULTS = 50


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("whole", [True, False])
def test_faults_in_every_file(tmp_path: Path, killed: bool, whole: bool) -> None:
    """`whole` says whether the database is small enough to be read whole."""
    first = 0 if whole else FAULTS
    with patch.object(sqlite, "_WHOLE_BYTES", sqlite._WHOLE_BYTES if whole else 0):
        numbers = range(first, first + FAULTS)
        found = list(damaging.tried(tmp_path, numbers, killed=killed, blocks=whole))
    assert not [(one.fault, one.violation) for one in found if one.violation]
    assert {one.what.partition(":")[0] for one in found} == {"told", "unharmed"}


def test_the_faults_would_be_seen(tmp_path: Path) -> None:
    """Without the second index and without a look at the whole file, damage is absence."""
    listed = sqlite._LIST.replace(WITNESS, INDEX)
    nobody = "SELECT 1 FROM object WHERE 0 AND key = ?"
    with (
        patch.object(sqlite, "_LIST", listed),
        patch.object(sqlite, "_WITNESSED", nobody),
        patch.object(sqlite, "_ALL_WITNESSED", nobody.replace("= ?", "IN")),
        patch.object(SqliteStore, "inspect", lambda self, prefix: None),
        patch.object(sqlite, "check_log", lambda path: None),
    ):
        found = list(damaging.tried(tmp_path, range(40), killed=True))
    assert any(one.violation for one in found)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "k.db"
    with closing(SqliteStore(path)) as store:
        store.create_all([(f"x/e/inv/{number:03}", b"x" * 50) for number in range(200)])
    yield path


def lose(path: Path, index: str, key: str) -> None:
    """Take an entry out of one index, as a flipped bit does."""
    data = path.read_bytes()
    places = [found.start() for found in re.finditer(re.escape(key).encode(), data)]
    for at in places:
        path.write_bytes(data[:at] + b"X" + data[at + 1 :])
        with closing(sqlite3.connect(path)) as connection:
            query = f"SELECT 1 FROM object INDEXED BY {index} WHERE key = ?"
            if not connection.execute(query, (key,)).fetchall():
                return
    raise AssertionError(f"{index} does not contain {key}")


@pytest.mark.parametrize("index", [INDEX, WITNESS])
@pytest.mark.parametrize("use", ["get", "get_all", "list", "create", "inspect"])
@pytest.mark.parametrize("whole", [64 << 20, 0])
def test_a_key_that_one_index_has_lost(
    path: Path, index: str, use: str, whole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_WHOLE_BYTES", whole)
    key = "x/e/inv/123"
    lose(path, index, key)
    with closing(SqliteStore(path)) as store:
        if use == "create":
            # Either index refuses it, so that nobody believes to be the first.
            assert not store.create(key, b"again")
            return
        if (use, index) in {("get", WITNESS), ("get_all", WITNESS)}:
            assert store.get(key) == store.get_all([key])[0] == b"x" * 50
            return
        with pytest.raises(RecordCorrupt, match="damaged") as told:
            {
                "get": lambda: store.get(key),
                "get_all": lambda: store.get_all(["x/e/inv/001", key, "x/e/inv/absent"]),
                "list": lambda: store.list("x/e/"),
                "inspect": lambda: store.inspect("x/e/"),
            }[use]()
    assert "kitaru store verify sqlite:" in told.value.help


def test_a_key_that_is_created_between_two_looks_is_no_damage(path: Path) -> None:
    with closing(SqliteStore(path)) as store, closing(SqliteStore(path)) as other:
        read = store._read

        def slowly(query: str, parameters: tuple[object, ...]) -> object:
            found = read(query, parameters)
            if query == sqlite._GET and not found:
                other.create("x/e/inv/new", b"1")
            return found

        with patch.object(store, "_read", slowly):
            assert store.get("x/e/inv/new") == b"1"


def killed(path: Path, to: Path) -> Path:
    """Return a copy of a store whose process was killed with commits in its log."""
    to.mkdir()
    with patch.object(sqlite, "_LOG_SECONDS", 1e9), closing(SqliteStore(path)) as store:
        store.create("x/e/first", b"1")
        for number in range(5):
            store.create(f"x/e/late/{number}", b"1")
        for suffix in ("", "-wal", "-shm"):
            shutil.copyfile(f"{path}{suffix}", to / f"k.db{suffix}")
    return to / "k.db"


@pytest.mark.parametrize("damage", ["deleted", "emptied", "shortened", "flipped", "header"])
def test_a_log_that_lost_commits(path: Path, tmp_path: Path, damage: str) -> None:
    left = killed(path, tmp_path / "left")
    log = left.with_name("k.db-wal")
    data = bytearray(log.read_bytes())
    if damage == "deleted":
        log.unlink()
    else:
        if damage == "emptied":
            data.clear()
        elif damage == "shortened":
            del data[-2000:]
        else:
            data[17 if damage == "header" else len(data) // 2] ^= 4
        log.write_bytes(data)
    with pytest.raises(RecordCorrupt, match="were committed") as told:
        SqliteStore(left)
    assert f"rm {left}-shm" in told.value.help
    # What the help says is what it takes.
    left.with_name("k.db-shm").unlink()
    with closing(SqliteStore(left)) as store:
        assert store.get("x/e/inv/000") == b"x" * 50


def test_a_log_that_is_whole_is_used(path: Path, tmp_path: Path) -> None:
    with closing(SqliteStore(killed(path, tmp_path / "left"))) as store:
        assert len(store.list("x/e/late/")) == 5


def test_a_damaged_log_whose_database_is_complete(path: Path, tmp_path: Path) -> None:
    """SQLite would use the pages before the damage, which are older than those of the database."""
    left = tmp_path / "left"
    left.mkdir()
    with closing(SqliteStore(path)) as store:
        for number in range(8):
            store.create(f"x/e/late/{number}", b"1" * 2000)
        # A second connection that reads keeps the log from being begun anew.
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM object").fetchall()
            for number in range(3):
                store.create(f"x/e/later/{number}", b"1" * 2000)
                store.flush()
        store.create("x/e/last", b"1")
        store.flush()
        for suffix in ("", "-wal", "-shm"):
            shutil.copyfile(f"{path}{suffix}", left / f"k.db{suffix}")
    log = left / "k.db-wal"
    data = bytearray(log.read_bytes())
    data[-1500] ^= 1
    log.write_bytes(data)
    with pytest.raises(RecordCorrupt, match="contains all of it already") as told:
        SqliteStore(left / "k.db")
    assert f"rm {log}" in told.value.help
    for suffix in ("-wal", "-shm"):
        (left / f"k.db{suffix}").unlink()
    with closing(SqliteStore(left / "k.db")) as store:
        assert store.get("x/e/last") == b"1"


def test_a_log_beside_another_copy_of_its_database(path: Path, tmp_path: Path) -> None:
    older = tmp_path / "older.db"
    shutil.copyfile(path, older)
    with closing(SqliteStore(path)) as store:
        for number in range(sqlite_damage._MOST_PENDING + 2):
            store.create(f"x/e/more/{number}", b"1")
            store.flush()
    left = killed(path, tmp_path / "left")
    shutil.copyfile(older, left)
    left.with_name("k.db-shm").unlink()
    with pytest.raises(RecordCorrupt, match="belongs to another copy"):
        SqliteStore(left)


@pytest.mark.parametrize("moment", ["k.db-shm", "k.db"])
def test_files_that_change_while_they_are_read_are_not_damaged(
    path: Path, tmp_path: Path, moment: str
) -> None:
    """A busy machine can stop the reader between two files while others commit many times."""
    read, left = sqlite_damage._head, killed(path, tmp_path / "left")
    with closing(SqliteStore(left)) as store:

        def commits_afterwards(one: Path, size: int | None) -> bytes:
            found = read(one, size)
            if one.name == moment:
                for _ in range(sqlite_damage._MOST_PENDING + 2):
                    store.create(f"x/e/more/{len(store.list('x/e/more/'))}", b"1")
                    store.flush()
            return found

        with (
            patch.object(sqlite_damage, "_head", commits_afterwards),
            patch.object(sqlite_damage, "_PAUSE_SECONDS", 0),
        ):
            sqlite_damage.check_log(left)


def test_a_schema_that_is_not_ours(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"DROP INDEX {WITNESS}")
        connection.execute(f"CREATE INDEX {WITNESS} ON object(value)")
    with pytest.raises(RecordCorrupt, match="tables are not"):
        SqliteStore(path)
