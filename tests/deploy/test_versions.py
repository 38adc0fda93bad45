"""Versions are numbered and never change, and tags move, despite races and kills."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from kitaru.errors import KitaruError, NotFound, RecordCorrupt, StoreUnavailable, UsageError
from kitaru.runtime.executions.deployments import Deployments, parse
from kitaru.runtime.journal import launches
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import Store, open_store
from kitaru.stores.memory import MemoryStore
from kitaru.wire import keys
from kitaru.wire.ids import new_execution_id
from kitaru.wire.records import LaunchRecord
from tests.waiting import attempts


def files(text: str) -> dict[str, bytes]:
    """A build: its lock covers whatever else is in it."""
    return {"lock.json": f"lock of {text}".encode(), "plan.json": text.encode(), "same": b"same"}


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else open_store(f"sqlite:{tmp_path}/s.db")


def test_the_same_build_is_the_same_version(store: Store) -> None:
    deployments = Deployments(store)
    versions = [deployments.add("f", "vertex", files(t)).version for t in "abacab"]
    assert versions == ["v1", "v2", "v1", "v3", "v1", "v2"]
    assert [one.version for one in deployments.list("f")] == ["v1", "v2", "v3"]
    assert deployments.flows() == ["f"]


def test_tags_move_and_versions_stay(store: Store) -> None:
    deployments = Deployments(store)
    for text in "ab":
        deployments.add("f", "vertex", files(text))
    assert deployments.tag("f@v1", "default").tags == ("default",)
    assert deployments.tag("f", "stable").tags == ("default", "stable")
    assert deployments.tag("f@v2", "default").tags == ("default",)
    assert deployments.tags("f") == {"default": 2, "stable": 1}
    assert [deployments.get(n).version for n in ("f", "f@stable", "f@v1")] == ["v2", "v1", "v1"]
    assert deployments.read(deployments.get("f@stable"), "plan.json") == b"a"
    moves = store.list(keys.tags("f"))
    deployments.tag("f@v2", "default")
    assert store.list(keys.tags("f")) == moves, "an existing tag does not move"


@pytest.mark.parametrize(
    ("name", "message", "help"),
    [
        ("g", "The flow g is not deployed", "Deployed are: f"),
        ("f@v3", "has no version v3", "v1 to v2, and the tags default (v1)"),
        ("f@canary", "has no tag canary", "v1 to v2, and the tags default (v1)"),
    ],
)
def test_what_is_unknown_says_what_there_is(
    name: str, message: str, help: str, store: Store
) -> None:
    deployments = Deployments(store)
    for text in "ab":
        deployments.add("f", "vertex", files(text))
    deployments.tag("f@v1", "default")
    with pytest.raises(NotFound, match=message) as raised:
        deployments.get(name)
    assert help in raised.value.help


@pytest.mark.parametrize("name", ["f@", "@v1", "f@v1@v2", "../x", "f@v0", "f@v01", "f@a/b", "f@é"])
def test_what_is_no_name(name: str, store: Store) -> None:
    with pytest.raises(UsageError):
        parse(name)


def test_a_file_that_is_not_what_was_deployed(store: Store) -> None:
    deployments = Deployments(store)
    made = deployments.add("f", "vertex", files("a"))
    key = keys.deployed_file(made.files["plan.json"])
    for change in (lambda: None, lambda: store.create(key, b"other")):
        store.delete(key)
        change()
        with pytest.raises(RecordCorrupt, match=r"plan\.json of f v1"):
            deployments.read(made, "plan.json")


@pytest.mark.parametrize("texts", ["aaaaaaaa", "abcdefgh", "aabbccdd"])
def test_deploying_at_once(texts: str, store: Store) -> None:
    found: dict[int, tuple[str, str]] = {}
    begin = threading.Barrier(len(texts))

    def deploy(place: int, text: str) -> None:
        begin.wait()
        made = Deployments(store).add("f", "vertex", files(text))
        Deployments(store).tag(f"f@{made.version}", "default")
        found[place] = (text, made.version)

    threads = [threading.Thread(target=deploy, args=each) for each in enumerate(texts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(texts)
    # One version for each text, numbered without a gap, and the tag at one of them.
    assert len(set(found.values())) == len(set(texts))
    numbers = [one.number for one in Deployments(store).list("f")]
    assert numbers == [*range(1, len(set(texts)) + 1)]
    assert Deployments(store).get("f").version in {version for _, version in found.values()}


def test_what_was_started_and_has_not_begun_is_said_to_be_so(store: Store) -> None:
    exec_id = new_execution_id()
    launches.record_launch(store, exec_id, LaunchRecord("f", {"topic": "tea"}, 1))
    with pytest.raises(NotFound, match="has not begun yet"):
        Journal.open(store, exec_id)
    assert launches.version(store, exec_id) == "v1"


class Killed(BaseException):
    """The process is gone; nothing catches this."""


class Breaking(MemoryStore):
    """Dies, or loses the answer, at one operation that is counted."""

    def __init__(self, at: int, fault: str) -> None:
        super().__init__()
        self.left, self.fault = at, fault

    def _count(self, effect: Callable[[], Any]) -> Any:
        self.left -= 1
        if self.left:
            return effect()
        if self.fault in ("after", "lost"):
            effect()
        raise StoreUnavailable("no answer") if self.fault == "lost" else Killed

    def create(self, key: str, value: bytes) -> bool:
        return bool(self._count(lambda: MemoryStore.create(self, key, value)))

    def create_all(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        return [self.create(key, value) for key, value in objects]


@pytest.mark.parametrize("fault", ["before", "after", "lost"])
def test_killed_at_every_write_it_is_deployed_once(fault: str) -> None:
    for at in attempts():
        store = Breaking(at, fault)
        try:
            Deployments(store).tag(
                f"f@{Deployments(store).add('f', 'vertex', files('a')).version}", "default"
            )
        except (Killed, KitaruError):
            # A concurrent reader sees a complete version or none.
            for version in Deployments(store).list("f"):
                assert {n: Deployments(store).read(version, n) for n in version.files} == files("a")
        reached = store.left <= 0
        store.left = 0
        made = Deployments(store).add("f", "vertex", files("a"))
        assert Deployments(store).tag(f"f@{made.version}", "default").version == "v1"
        assert [one.version for one in Deployments(store).list("f")] == ["v1"]
        if not reached:
            break
    assert at > len(files("a")) + 2, "every write of a deployment was one to be killed at"
