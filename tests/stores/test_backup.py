"""Backup, restore and verify: between every pair of kinds, beside writers, and interrupted."""

from __future__ import annotations

import secrets
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.client import KitaruClient
from kitaru.errors import KitaruError, NotFound, RecordCorrupt, StateError, UsageError
from kitaru.ops.backup import _objects, backup, restore
from kitaru.ops.inbox import inbox
from kitaru.ops.verify import verify
from kitaru.stores import Store, open_store
from kitaru.stores.memory import MemoryStore
from kitaru.stores.sqlite import SqliteStore
from kitaru.stores.sqlite_file import INDEX
from kitaru.wire import keys

from .conftest import BUCKETS
from .servers.proxy import Proxy

calls: list[int] = []


@checkpoint(cache=False)
def step(number: int) -> str:
    calls.append(number)
    return "é" * (70_000 if number == 1 else number)


@flow(cache=False)
def chain() -> list[int]:
    results = [step(number) for number in range(4)]
    kitaru.memory.set("count", len(results))
    if kitaru.wait(name="ok", schema=bool):
        results.append(step(4))
    return [len(one) for one in results]


@pytest.fixture
def urls(tmp_path: Path) -> Callable[[str], str]:
    """Return the URL of a new store of a kind; one in memory stands for a bucket."""

    def url(kind: str) -> str:
        name = secrets.token_hex(4)
        return f"memory:t{name}" if kind == "bucket" else f"sqlite:{tmp_path}/{name}.db"

    return url


def waiting(url: str, exec_id: str = "e-1") -> Store:
    """Return a store with an execution that has recorded four checkpoints and waits."""
    store = open_store(url)
    handle = chain.options(store=store, exec_id=exec_id).run()
    assert handle.settle(60) == "waiting"
    assert handle._run is not None
    handle._run.is_delivered = True
    return store


def content(store: Store) -> dict[str, bytes | None]:
    found = [key for key in store.list("") if not key.startswith(keys.BACKUP)]
    return dict(zip(found, store.get_all(found), strict=True))


KINDS = ["sqlite", "bucket"]


@pytest.mark.parametrize("origin", KINDS)
@pytest.mark.parametrize("through", KINDS)
@pytest.mark.parametrize("to", KINDS)
def test_there_and_back(urls: Callable[[str], str], origin: str, through: str, to: str) -> None:
    source = waiting(urls(origin))
    saved, restored = urls(through), urls(to)
    copied = backup(source, saved)
    assert copied.objects == copied.new == len(content(source))
    again = restore(saved, restored)
    assert (again.objects, again.bytes) == (copied.objects, copied.bytes)
    with closing(open_store(restored)) as store:
        assert content(store) == content(source)
        assert not verify(store).findings
        # It is a store: its execution continues, and what is recorded does not run again.
        calls.clear()
        KitaruClient(store).executions.input("e-1", True).wait()
        assert calls == [4]
    source.close()


def test_a_backup_beside_writers_is_a_store_at_some_moment(urls: Callable[[str], str]) -> None:
    """Each writer creates b only after a, and its data before both."""
    source = open_store(urls("sqlite"))
    ended = threading.Event()

    def write(name: str) -> None:
        number = 0
        while not ended.is_set():
            source.create(f"gc/{name}/{number:06}/data", b"d" * 3000)
            source.create(f"gc/{name}/{number:06}/pointer", b"p")
            number += 1

    writers = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for writer in writers:
        writer.start()
    saved = [urls(kind) for kind in ("sqlite", "bucket", "sqlite")]
    try:
        for url in saved:
            backup(source, url)
    finally:
        ended.set()
        for writer in writers:
            writer.join()
    for url in saved:
        found = open_store(url).list("gc/")
        for name in "ab":
            of = [key for key in found if key.startswith(f"gc/{name}/")]
            last = len(of) // 2
            whole = [
                f"gc/{name}/{n:06}/{what}" for n in range(last) for what in ("data", "pointer")
            ]
            assert of in (whole, [*whole, f"gc/{name}/{last:06}/data"])
    source.close()


class Moving(MemoryStore):
    """A bucket in which an execution records another checkpoint after each of the first lists."""

    def __init__(self) -> None:
        super().__init__("memory:moving")
        self.moves = 0

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[str]:
        found = super().list(prefix, after=after, limit=limit)
        if prefix == "x/e/" and self.moves < 5:
            self.moves += 1
            # The later record sorts before the earlier one, and a page before has been listed.
            super().create(f"x/e/process/z{9 - self.moves}", b"")
            super().create(f"x/e/process/a{9 - self.moves}", b"")
        return found


def test_an_execution_that_records_meanwhile_is_copied_as_it_was_at_one_moment() -> None:
    source = Moving()
    source.create("x/e/process/0", b"")
    target = open_store(url := f"memory:t{secrets.token_hex(4)}")
    with patch("kitaru.ops.backup.verify", lambda store: verify(MemoryStore())):
        backup(source, url)
    assert source.moves == 5
    assert target.list("x/") == source.list("x/")


def test_a_second_backup_into_a_bucket_copies_what_is_new(urls: Callable[[str], str]) -> None:
    source, saved = waiting(urls("sqlite")), urls("bucket")
    first = backup(source, saved)
    assert backup(source, saved).new == 0
    KitaruClient(source).executions.input("e-1", True).wait()
    second = backup(source, saved)
    # The hints of the answered wait are gone from the source. A copy keeps what it has.
    copied = content(open_store(saved))
    news, hint = sorted(copied.keys() - content(source).keys())
    assert news == keys.news_asked("e-1", "ok", 1)
    assert hint.startswith(keys.WAITING) and hint.endswith("/e-1/ok/000001")
    assert second.objects == first.objects + second.new - 2 > first.objects
    assert copied == {**content(source), hint: b"chain", news: copied[news]}
    restore(saved, restored := urls("sqlite"))
    with closing(open_store(restored)) as store:
        assert inbox(store).items == []
    source.close()


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_interrupted_backup_is_no_backup_until_it_is_continued(
    urls: Callable[[str], str], after: int
) -> None:
    source, saved = waiting(urls("sqlite"), "e-1"), urls("bucket")
    waiting(source.url, "e-2").close()
    create, done = MemoryStore.create_all, []

    def interrupted(self: MemoryStore, objects: list[tuple[str, bytes]]) -> list[bool]:
        if len(done) == after:
            raise Interrupted
        done.append(1)
        return create(self, objects)

    with patch.object(MemoryStore, "create_all", interrupted), pytest.raises(Interrupted):
        backup(source, saved)
    partial = open_store(saved)
    # No execution is there in part.
    for exec_id in ("e-1", "e-2"):
        if partial.get(keys.execution(exec_id)) is not None:
            home = keys.home(exec_id)
            assert partial.list(home) == source.list(home)
    assert any("interrupted" in one.what for one in verify(partial).findings)
    with pytest.raises(RecordCorrupt, match="incomplete"):
        restore(saved, urls("sqlite"))
    backup(source, saved)
    restore(saved, urls("sqlite"))
    source.close()


def test_an_interrupted_backup_leaves_no_file(urls: Callable[[str], str], tmp_path: Path) -> None:
    source, saved = waiting(urls("bucket")), urls("sqlite")
    with (
        patch.object(SqliteStore, "get_all", side_effect=Interrupted),
        pytest.raises(Interrupted),
    ):
        backup(source, saved)
    assert not list(tmp_path.iterdir())
    backup(source, saved)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_overwritten(urls: Callable[[str], str], kind: str) -> None:
    one, other = waiting(urls(kind)), waiting(urls(kind), "other")
    saved = urls("sqlite")
    backup(one, saved)
    before = content(other)
    with pytest.raises(StateError):
        restore(saved, other.url)
    with pytest.raises(StateError):
        backup(one, other.url)
    assert content(other) == before
    if kind == "bucket":
        with pytest.raises(UsageError):
            restore(saved, other.url, replace=True)
        return
    other.close()
    aside = restore(saved, other.url, replace=True).replaced
    assert content(open_store(other.url)) == content(one)
    assert content(open_store(f"sqlite:{aside}")) == before


def test_a_process_that_uses_a_file_notices_that_it_was_replaced(
    urls: Callable[[str], str],
) -> None:
    store, saved = waiting(urls("sqlite")), urls("sqlite")
    backup(store, saved)
    restore(saved, store.url, replace=True)
    with pytest.raises(KitaruError, match="replaced"):
        store.create("a/b", b"1")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["record", "blob", "no blob", "no state"])
def test_damage_is_found_and_not_copied(urls: Callable[[str], str], kind: str, damage: str) -> None:
    source = waiting(urls(kind))
    found = source.list("x/e-1/")
    places = {
        "record": keys.invocation("e-1", "step"),
        "blob": next(key for key in found if "/blob/" in key),
        "no blob": next(key for key in found if "/blob/" in key),
        "no state": keys.state("e-1", 1),
    }
    key = places[damage]
    data = source.get(key)
    assert data is not None
    source.delete(key)
    if not damage.startswith("no"):
        source.create(key, data[:-9] + b"x" + data[-8:])
    assert key in {one.key for one in verify(source).findings}
    with pytest.raises(RecordCorrupt, match="nothing was copied"):
        backup(source, urls("sqlite"))
    source.close()


def test_a_store_whose_index_is_damaged_is_restored_from_its_table(
    urls: Callable[[str], str],
) -> None:
    source = waiting(urls("sqlite"))
    assert isinstance(source, SqliteStore)
    before, path = content(source), source.path
    source.close()
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        (page,) = connection.execute(query, (INDEX,)).fetchone()
    data = bytearray(path.read_bytes())
    data[(page - 1) * 1024 : page * 1024] = bytes(1024)
    path.write_bytes(data)
    damaged = open_store(f"sqlite:{path}")
    assert verify(damaged).findings
    with pytest.raises(RecordCorrupt):
        backup(damaged, urls("sqlite"))
    damaged.close()
    restored = urls("sqlite")
    restore(f"sqlite:{path}", restored)
    assert content(open_store(restored)) == before


def test_what_is_not_there(urls: Callable[[str], str]) -> None:
    gone = urls("sqlite")
    with pytest.raises(NotFound):
        restore(gone, urls("sqlite"))
    store = SqliteStore(Path(gone.removeprefix("sqlite:")))
    shutil.rmtree(store.path.parent)
    with pytest.raises(NotFound):
        verify(store)


@pytest.mark.parametrize("kind", BUCKETS)
def test_between_buckets_and_files(
    behind: Callable[[str], Proxy], urls: Callable[[str], str], kind: str
) -> None:
    place = f"{behind(kind).url}/{secrets.token_hex(4)}"
    source = waiting(f"{place}/source")
    backup(source, f"{place}/saved")
    assert backup(source, f"{place}/saved").new == 0
    restore(f"{place}/saved", in_file := urls("sqlite"))
    restore(in_file, f"{place}/restored")
    expected = {key: data for key, data in content(source).items() if key != "kitaru-store"}
    with closing(open_store(in_file)) as file, closing(open_store(f"{place}/restored")) as again:
        assert content(file) == expected
        assert {k: v for k, v in content(again).items() if k != "kitaru-store"} == expected
        assert not verify(again).findings
        with pytest.raises(StateError):
            restore(f"{place}/saved", _used(place))
    source.close()


def _used(place: str) -> str:
    """Return the URL of a bucket's store that contains something else."""
    with closing(open_store(f"{place}/used")) as store:
        store.create("a/b", b"1")
    return f"{place}/used"


def test_replays_are_copied_before_what_they_replay() -> None:
    """A replay refers to values of its source; ids do not tell which of them is older."""
    store = MemoryStore()
    for exec_id, source in (("m", ""), ("a", "m"), ("z", "a"), ("k", "m"), ("b", "")):
        store.create(keys.execution(exec_id), b"{}")
        if source:
            store.create(keys.replay(source, exec_id), b"")
    order = [key.split("/")[1] for key, _ in _objects(store) if key.startswith("x/")]
    assert order == ["z", "a", "k", "b", "m"]
