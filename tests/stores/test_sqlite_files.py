"""The three files of a SQLite store: deleted, replaced, shortened, overwritten or copied in use."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kitaru.errors import KitaruError, StoreUnavailable, StoreUnsuitable
from kitaru.stores import sqlite, sqlite_watch
from kitaru.stores.sqlite import SqliteStore
from kitaru.stores.sqlite_watch import read_header


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteStore]:
    """A store with a record in its database, and one that only its log contains."""
    store = SqliteStore(tmp_path / "k.db")
    store.create("a/early", b"1")
    store.flush()
    monkeypatch.setattr(sqlite, "_LOG_SECONDS", 1e9)
    # No other process writes, so that nothing is to be waited for before the next look.
    monkeypatch.setattr(sqlite_watch, "_PAUSE_SECONDS", 0)
    store.create("a/late", b"2")
    yield store
    store.close()


def log(store: SqliteStore) -> Path:
    return store.path.with_name("k.db-wal")


def replace_by_itself(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def shorten(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


def overwrite(store: SqliteStore) -> None:
    """Write another store into the file, as `cp other.db k.db` does."""
    other = store.path.with_name("other.db")
    with closing(SqliteStore(other)) as made:
        made.create_all([(f"b/{n}", b"x" * 9000) for n in range(9)])
    shutil.copyfile(other, store.path)


def put_back_an_older_copy(store: SqliteStore) -> None:
    older = store.path.with_name("older.db")
    shutil.copyfile(store.path, older)
    store.create("a/later", b"3")
    store.flush()
    with older.open("r+b") as file:
        # A copy of the same size: only its header tells that it is older.
        file.truncate(store.path.stat().st_size)
    shutil.copyfile(older, store.path)


DAMAGES: dict[str, Callable[[SqliteStore], object]] = {
    "log deleted": lambda store: log(store).unlink(),
    "log replaced": lambda store: replace_by_itself(log(store)),
    "log emptied": lambda store: shorten(log(store), 0),
    "log shortened": lambda store: shorten(log(store), log(store).stat().st_size - 1),
    "log renamed": lambda store: log(store).rename(log(store).with_name("elsewhere")),
    "database deleted": lambda store: store.path.unlink(),
    "database renamed": lambda store: store.path.rename(store.path.with_name("elsewhere")),
    "database replaced": lambda store: replace_by_itself(store.path),
    "database emptied": lambda store: shorten(store.path, 0),
    "database shortened": lambda store: shorten(store.path, 1024),
    "database overwritten": overwrite,
    "database zeroed": lambda store: store.path.write_bytes(bytes(store.path.stat().st_size)),
    "older copy put back": put_back_an_older_copy,
    "directory deleted": lambda store: shutil.rmtree(store.path.parent),
}
# The log that is shortened has lost commits, and nothing else contains them.
LOSES = {"log emptied", "log shortened"}
# The damaged file takes the place of what it contained.
SPOILS = {"database emptied", "database shortened", "database overwritten", "database zeroed"}


@pytest.mark.parametrize("use", ["create", "get", "list"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damage_in_use_is_noticed_before_the_next_acknowledgement(
    store: SqliteStore, damage: str, use: str
) -> None:
    DAMAGES[damage](store)
    uses: dict[str, Callable[[], object]] = {
        "create": lambda: store.create("a/next", b"4"),
        "get": lambda: store.get("a/next"),
        "list": lambda: store.list("a/"),
    }
    with pytest.raises(KitaruError) as told:
        uses[use]()
    assert told.value.exit_code == 3
    assert str(told.value).startswith("The store was damaged while it was in use."), told.value
    assert "\nrm -f " in told.value.help or "kitaru " in told.value.help
    # It stays so: nothing is acknowledged any more.
    for each in uses.values():
        with pytest.raises(KitaruError):
            each()


@pytest.mark.parametrize("damage", ["database emptied", "database shortened", "database zeroed"])
def test_an_error_of_sqlite_names_the_file_that_was_damaged(
    store: SqliteStore, damage: str
) -> None:
    """SQLite may notice first, in the middle of a commit."""
    with pytest.raises(StoreUnavailable, match="was damaged while it was in use"), store._watched():
        DAMAGES[damage](store)
        raise sqlite3.DatabaseError("file is not a database")


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreUnsuitable, match=r"empty\.db is empty"):
        SqliteStore(tmp_path / "empty.db")


@pytest.mark.parametrize("damage", sorted(DAMAGES.keys() - LOSES - SPOILS))
def test_what_was_recorded_is_saved(store: SqliteStore, damage: str, tmp_path: Path) -> None:
    DAMAGES[damage](store)
    with pytest.raises(StoreUnavailable) as told:
        store.create("a/next", b"4")
    saved = tmp_path / ("k.db" if damage.startswith("log") else "k.db.rescued")
    assert f"is saved in {saved}." in told.value.help or f"is in {saved} now" in told.value.help
    moved = shutil.copyfile(saved, tmp_path / "alone.db")
    with closing(SqliteStore(moved)) as alone:
        assert (alone.get("a/early"), alone.get("a/late")) == (b"1", b"2")


def test_a_file_alone_contains_nearly_everything(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "k.db")) as store:
        for number in range(60):
            store.create(f"a/{number:03}", b"x" * 30_000)
            if number == 0:
                assert copied(store) == 1, "the first one after a pause is written at once"
        # The log has a bound, so that what it alone contains has one.
        assert log(store).stat().st_size < 2 * sqlite._LOG_BYTES
        assert copied(store) > 30
        store.flush()
        assert copied(store) == 60


def copied(store: SqliteStore) -> int:
    """Return how many objects a copy of the database alone contains."""
    alone = store.path.with_name("alone.db")
    shutil.copyfile(store.path, alone)
    try:
        with closing(sqlite3.connect(alone)) as connection:
            found: int = connection.execute("SELECT count(*) FROM object").fetchone()[0]
            return found
    finally:
        for suffix in ("", "-wal", "-shm"):
            alone.with_name(alone.name + suffix).unlink(missing_ok=True)


def test_two_processes_that_write_the_log_back_are_no_damage(tmp_path: Path) -> None:
    with (
        closing(SqliteStore(tmp_path / "k.db")) as one,
        closing(SqliteStore(tmp_path / "k.db")) as other,
    ):
        for number in range(6):
            for name, store in (("one", one), ("other", other)):
                assert store.create(f"{name}/{number}", b"x" * 2000)
                store.flush()
        assert len(one.list("")) == len(other.list("")) == 12
        header = read_header(one.path)
    assert header is not None and header.generation >= 12


def test_a_log_without_its_database_starts_no_new_store(store: SqliteStore, tmp_path: Path) -> None:
    """The file was moved away after its process was killed: the log contains its last commits."""
    killed, moved = tmp_path / "killed", tmp_path / "moved"
    killed.mkdir()
    for suffix in ("", "-wal", "-shm"):
        shutil.copyfile(f"{store.path}{suffix}", killed / f"k.db{suffix}")
    (killed / "k.db").rename(moved)
    with pytest.raises(StoreUnavailable, match="is gone, but its log") as told:
        SqliteStore(killed / "k.db")
    assert f"rm {killed / 'k.db-wal'}" in told.value.help
    moved.rename(killed / "k.db")
    with closing(SqliteStore(killed / "k.db")) as again:
        assert again.list("a/") == ["a/early", "a/late"]


def test_a_commit_looks_three_times(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    stat = sqlite_watch._stat

    def counted(path: str) -> os.stat_result | None:
        looked.append(path)
        return stat(path)

    monkeypatch.setattr(sqlite_watch, "_stat", counted)
    store.create("a/next", b"3")
    assert len(looked) == 3


def test_nobody_else_may_read_what_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "k.db"
    before = os.umask(0)
    try:
        with closing(SqliteStore(path)) as store:
            store.create("a", b"1")
            modes = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"k.db": 0o600, "k.db-wal": 0o600, "k.db-shm": 0o600}
    for folder in (path.parent, path.parent.parent):
        assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("folder", "mode"), [(".kitaru", 0o600), ("shared", 0o664)])
def test_a_default_store_of_an_earlier_release_is_closed_to_others(
    tmp_path: Path, folder: str, mode: int
) -> None:
    path = tmp_path / folder / "kitaru.db"
    SqliteStore(path).close()
    path.chmod(0o664)
    path.parent.chmod(0o755)
    with closing(SqliteStore(path)):
        assert path.stat().st_mode & 0o777 == mode
    assert path.parent.stat().st_mode & 0o777 == (0o700 if folder == ".kitaru" else 0o755)
