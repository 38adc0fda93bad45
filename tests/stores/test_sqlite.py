"""What only the SQLite store promises: durable, shared commits, whole files, told failures."""

from __future__ import annotations

import gc
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from kitaru.errors import (
    KitaruError,
    RecordCorrupt,
    StoreUnavailable,
    StoreUnsuitable,
    UsageError,
)
from kitaru.stores import open_store, sqlite
from kitaru.stores.sqlite import SqliteStore
from tests.waiting import wait_until


@pytest.fixture
def tmp_path(on_disk: Path) -> Path:
    return on_disk


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "kitaru.db")
    yield store
    store.close()


def pragma(connection: sqlite3.Connection, name: str) -> object:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_every_connection_waits_for_the_disk(store: SqliteStore) -> None:
    for connection in (store._writer, store._reader):
        assert pragma(connection, "synchronous") == 2
        assert pragma(connection, "journal_mode") == "wal"
        assert pragma(connection, "busy_timeout") == 30_000


def test_where_the_file_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KITARU_STORE", raising=False)
    (tmp_path / "folder").mkdir()
    expected = {
        None: ".kitaru/kitaru.db",
        "sqlite:folder": "folder/kitaru.db",
        "sqlite:new/": "new/kitaru.db",
        "sqlite:new/deep/x.db": "new/deep/x.db",
    }
    for url, path in expected.items():
        store = open_store(url)
        assert store.url == f"sqlite:{tmp_path / path}"
        assert (tmp_path / path).is_file()
        store.close()
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".kitaru.db")]


def test_the_environment_names_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_STORE", f"sqlite:{tmp_path}/from-environment.db")
    store = open_store()
    assert store.url.endswith("/from-environment.db")
    store.close()


@pytest.mark.parametrize("url", ["sqlite:", "postgres://x", "nonsense", "memory:a b", "s3:/x"])
def test_a_url_that_names_no_store(url: str) -> None:
    with pytest.raises(UsageError):
        open_store(url)


def test_threads_that_wait_for_the_disk_share_one_commit(store: SqliteStore) -> None:
    statements: list[str] = []
    store._writer.set_trace_callback(statements.append)
    threads = [threading.Thread(target=store.create, args=(f"k/{n}", b"x" * n)) for n in range(12)]
    with store._writing:
        for thread in threads:
            thread.start()
        wait_until(lambda: len(store._queue) == len(threads))
    for thread in threads:
        thread.join()
    assert statements.count("COMMIT") == 1
    assert len(store.list("k/")) == 12


def test_a_reader_does_not_wait_for_the_disk(store: SqliteStore) -> None:
    store.create("a", b"1")
    with store._writing:
        assert store.get("a") == b"1"


class Interrupted(BaseException):
    pass


def test_ctrl_c_in_one_thread_loses_nothing_of_another(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, leaders = store._commit, []

    def interrupt_the_first(jobs: list[object]) -> None:
        leaders.append(threading.current_thread())
        if len(leaders) == 1:
            raise Interrupted
        commit(jobs)  # type: ignore[arg-type]

    outcomes: dict[str, object] = {}

    def create(key: str) -> None:
        try:
            outcomes[key] = store.create(key, b"")
        except Interrupted:
            outcomes[key] = "interrupted"

    monkeypatch.setattr(store, "_commit", interrupt_the_first)
    threads = [threading.Thread(target=create, args=(f"k/{n}",)) for n in range(4)]
    with store._writing:
        for thread in threads:
            thread.start()
        wait_until(lambda: len(store._queue) == len(threads))
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes.values())) == ["True", "True", "True", "interrupted"]
    assert store.list("k/") == sorted(key for key, won in outcomes.items() if won is True)


@pytest.mark.parametrize("use", ["create", "get", "list"])
def test_a_deleted_file_is_noticed(store: SqliteStore, use: str) -> None:
    store.create("a", b"1")
    store.path.unlink()
    with pytest.raises(StoreUnavailable, match="was deleted"):
        {
            "create": lambda: store.create("b", b"2"),
            "get": lambda: store.get("b"),
            "list": lambda: store.list("b"),
        }[use]()


def test_a_replaced_file_is_noticed(store: SqliteStore, tmp_path: Path) -> None:
    SqliteStore(tmp_path / "other.db").close()
    (tmp_path / "other.db").replace(store.path)
    with pytest.raises(StoreUnavailable, match="was replaced"):
        store.create("b", b"2")


def test_a_full_disk_loses_nothing_and_goes_on_with_space(store: SqliteStore) -> None:
    store.create("a", b"1")
    full = pragma(store._writer, "page_count")
    store._writer.execute(f"PRAGMA max_page_count={full}")
    for objects in ([("b", b"x" * 9000)], [("c", b"1"), ("d", b"x" * 9000)]):
        with pytest.raises(StoreUnavailable, match="full"):
            store.create_all(objects)
    store._writer.execute("PRAGMA max_page_count=1000000")
    assert store.get("a") == b"1"
    assert store.list("") == ["a"]
    assert store.create("b", b"x" * 9000)


def test_a_store_that_another_process_holds(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.01)
    patient = SqliteStore(store.path)
    store._writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        patient.create("a", b"1")
    store._writer.execute("ROLLBACK")
    assert patient.create("a", b"1")
    patient.close()


@pytest.mark.parametrize("make", ["text", "database", "empty"])
def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path: Path, make: str) -> None:
    path = tmp_path / "x.db"
    if make == "database":
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE mine (x)")
        connection.close()
    else:
        path.write_text("precious " * 100 if make == "text" else "")
    before = path.read_bytes()
    with pytest.raises(StoreUnsuitable):
        open_store(f"sqlite:{path}")
    assert path.read_bytes() == before


def test_a_store_without_durable_commits_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE object (key TEXT PRIMARY KEY, value BLOB)")
    connection.close()
    with pytest.raises(StoreUnsuitable, match="durable"):
        SqliteStore(path)


def test_a_damaged_file_is_told(store: SqliteStore) -> None:
    store.create_all([(f"k/{n:04d}", b"x" * 900) for n in range(300)])
    store.close()
    data = bytearray(store.path.read_bytes())
    data[2048:-2048] = b"\x7f" * (len(data) - 4096)
    store.path.write_bytes(data)
    with pytest.raises(RecordCorrupt):
        damaged = SqliteStore(store.path)
        damaged.list("k/")


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KitaruError) as told:
        open_store(f"sqlite:{tmp_path}/file/deep/kitaru.db")
    assert told.value.exit_code == 3


@pytest.mark.parametrize("read", ["list", "scan"])
def test_a_page_of_keys_costs_the_same_wherever_it_starts(store: SqliteStore, read: str) -> None:
    store.create_all([(f"x/{number:05}", b"value") for number in range(4_000)])
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    def cost(after: str) -> int:
        nonlocal steps
        steps = 0
        if read == "list":
            assert len(store.list("x/", after=after, limit=100)) == 100
        else:
            assert len(store._range(sqlite._SCAN, "x/", after, 100)) == 100
        return steps

    for connection in (store._writer, store._reader):
        # The number of instructions of SQLite.
        connection.set_progress_handler(step, 10)
    assert cost("x/03800") <= 1.1 * cost("")
    found = list(store.scan("x/"))
    assert found == [(key, b"value") for key in store.list("x/")]


@pytest.fixture
def no_other_stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the stores of earlier tests out, and collect no garbage by the number of objects."""
    monkeypatch.setattr(sqlite, "_stores", weakref.WeakSet())
    monkeypatch.setattr(sqlite, "_most_open", sqlite._MOST_OPEN)
    gc.disable()
    yield
    gc.enable()


def in_use(path: Path) -> int:
    return sqlite._in_use[path.stat().st_dev, path.stat().st_ino]


@pytest.mark.usefixtures("no_other_stores")
def test_the_stores_of_ended_runs_are_closed(tmp_path: Path) -> None:
    path = tmp_path / "kitaru.db"
    most = 0
    for _ in range(3 * sqlite._MOST_OPEN):
        run: dict[str, object] = {"store": SqliteStore(path)}
        run["itself"] = run
        most = max(most, in_use(path))
    assert most <= sqlite._MOST_OPEN + 1


@pytest.mark.usefixtures("no_other_stores")
def test_many_stores_in_use_do_not_collect_garbage_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collections = []
    monkeypatch.setattr(sqlite.gc, "collect", lambda: collections.append(1))
    opened = [SqliteStore(tmp_path / "kitaru.db") for _ in range(4 * sqlite._MOST_OPEN)]
    assert len(collections) == 2
    for store in opened:
        store.close()


def test_garbage_is_closed_while_another_store_is_opened(tmp_path: Path) -> None:
    stores = [SqliteStore(tmp_path / "kitaru.db")]

    def collect() -> None:
        with sqlite._using:
            stores.clear()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(240)
    assert not thread.is_alive()
    assert in_use(tmp_path / "kitaru.db") == 0
