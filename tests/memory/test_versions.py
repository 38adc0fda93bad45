"""How versions are found and written: exactly, in few operations, whatever a list says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kitaru.errors import MemoryConflict, UsageError, ValueNotEncodable
from kitaru.runtime.memory.memories import Memory
from kitaru.runtime.memory.scopes import MemoryScope
from kitaru.stores import open_store
from kitaru.stores.memory import MemoryStore

from .conftest import SCOPE, Operations, operations_on

LARGE = "large" * 20_000


class Counting(MemoryStore):
    """Counts operations; `lists` of it may be empty or old."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.stale: dict[str, list[str]] | None = None

    def create(self, key: str, value: bytes) -> bool:
        self.counts["create"] += 1
        return super().create(key, value)

    def get(self, key: str) -> bytes | None:
        self.counts["get"] += 1
        return super().get(key)

    def get_all(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[str]:
        self.counts["list"] += 1
        found = super().list(prefix, after=after, limit=limit)
        return found if self.stale is None else self.stale.get(prefix, [])[:limit]


def test_versions_count_from_one(operation: Operations) -> None:
    assert [operation().set("k", n) for n in range(3)] == [1, 2, 3]
    assert [v.version for v in operation().history("k")] == [1, 2, 3]


def test_a_deleted_key_has_no_value_but_a_history(operation: Operations) -> None:
    operation().set("k", "old")
    assert operation().delete("k")
    assert operation().entry("k") is None
    assert not operation().delete("k")
    assert [(v.version, v.deleted) for v in operation().history("k")] == [(1, False), (2, True)]
    assert operation().set("k", "new") == 3
    assert operation().list() == ["k"]


def test_a_version_can_be_read_by_its_number(operation: Operations) -> None:
    for value in ("a", "b"):
        operation().set("k", value)
    first = operation().entry("k", 1)
    assert first is not None and (first.value, first.version) == ("a", 1)
    assert operation().entry("k", 3) is None
    assert operation().entry("other") is None


@pytest.mark.parametrize("value", [None, 1, (1, {2}), [LARGE], {"a": b"\0"}])
def test_values_come_back_as_they_were(operation: Operations, value: object) -> None:
    operation().set("k", value)
    found = operation().entry("k")
    assert found is not None and found.value == value
    assert type(found.value) is type(value)


def test_a_value_that_cannot_be_recorded_names_the_key(operation: Operations) -> None:
    with pytest.raises(ValueNotEncodable, match="The memory user/1 cannot hold") as caught:
        operation().set("user/1", {"a": (n for n in ())})
    assert "a" in caught.value.path
    assert operation().list() == []


def test_history_may_be_cut_short(operation: Operations) -> None:
    for n in range(5):
        operation().set("k", n)
    assert [v.version for v in operation().history("k", 2)] == [4, 5]
    assert [v.version for v in operation().history("k", 9)] == [1, 2, 3, 4, 5]
    assert operation().history("other") == []


def test_expect_is_the_newest_version(operation: Operations) -> None:
    assert operation().set("k", "a", expect=0) == 1
    assert operation().set("k", "b", expect=1) == 2
    with pytest.raises(
        MemoryConflict, match="has version 2, where version 1 was expected"
    ) as raised:
        operation().set("k", "c", expect=1)
    assert raised.value.version == 2
    with pytest.raises(MemoryConflict, match="where no value was expected"):
        operation().delete("k", expect=0)
    assert operation().delete("k", expect=2)
    with pytest.raises(
        MemoryConflict, match="has no value, where version 2 was expected"
    ) as raised:
        operation().set("k", "c", expect=2)
    assert raised.value.version == 0
    assert operation().set("k", "c", expect=0) == 4


def test_keys_are_listed_by_prefix(operation: Operations) -> None:
    keys = ["a", "a/b", "a.b", "a-b", "ab", "a/b/c", "b"]
    for key in keys:
        operation().set(key, 1)
    operation().delete("ab")
    assert operation().list() == sorted(set(keys) - {"ab"})
    assert operation().list("a/") == ["a/b", "a/b/c"]
    assert operation().list("a.") == ["a.b"]
    assert operation().list("zz") == []


@pytest.mark.parametrize(
    "key", ["", "../x", "/etc/passwd", "a\\b", "é", "e\u0301", "a b", "a\n", "-a", "a" * 101, 1]
)
def test_what_is_no_key(operation: Operations, key: str) -> None:
    with pytest.raises(UsageError, match="cannot be the key of a memory"):
        operation().set(key, 1)


@pytest.mark.parametrize("key", ["CON", "a/../b", "user/42:tone", "x@y.z", "_", "a" * 100])
def test_what_is_a_key(operation: Operations, key: str) -> None:
    operation().set(key, 1)
    assert operation().list() == operation().list(key) == [key]


def test_the_longest_key_in_the_longest_scope_fits_into_a_store() -> None:
    longest = Memory(MemoryStore(), MemoryScope("namespace", "n" * 100), "test/1")
    longest.set("a" + "@" * 99, LARGE)
    found = longest.entry("a" + "@" * 99)
    assert found is not None and found.value == LARGE


def test_a_purged_key_leaves_nothing(operation: Operations) -> None:
    for value in ("a", LARGE, LARGE + "b"):
        operation().set("k", value)
    operation().set("k2", LARGE)
    store = operation().store
    kept = store.list("memory/flow/f/key/k2") + store.list("memory/flow/f/mark/k2")
    assert operation().purge("k") == 3
    assert store.list("") == sorted(kept)
    assert operation().list() == ["k2"]
    assert operation().set("k", "again") == 1
    assert operation().purge("never") == 0


@pytest.mark.parametrize("versions", [1, 2, 3, 7, 8, 9, 100])
def test_the_newest_is_found_without_any_list(versions: int) -> None:
    store = Counting()
    operation = operations_on(store)
    for n in range(versions):
        operation().set("k", n)
    store.stale = {}
    found = operation().entry("k")
    assert found is not None and (found.version, found.value) == (versions, versions - 1)
    assert operation().set("k", "next") == versions + 1


@pytest.mark.parametrize("old", [1, 3, 50])
def test_the_newest_is_found_with_an_old_list(old: int) -> None:
    store = Counting()
    operation = operations_on(store)
    for n in range(1, 101):
        operation().set("k", n)
        if n == old:
            store.stale = {p: store.list(p) for p in ["memory/flow/f/key/k/version/"]}
            then, store.stale = store.stale, None
    store.stale = then
    found = operation().entry("k")
    assert found is not None and found.value == 100


def test_a_read_costs_three_operations_however_many_versions_and_keys() -> None:
    store = Counting()
    operation = operations_on(store)
    for n in range(1000):
        operation().set("k", n)
    for n in range(300):
        operation().set(f"other/{n}", n)
    store.counts.clear()
    found = operation().entry("k")
    assert found is not None and found.value == 999
    assert store.counts == {"list": 1, "get": 2}
    store.counts.clear()
    assert len(operation().list("other/")) == 300
    assert store.counts == {"list": 1}
    store.counts.clear()
    operation().set("k", "next")
    assert store.counts == {"list": 1, "get": 2, "create": 1}
    store.counts.clear()
    assert len(operation().history("k", 10)) == 10
    assert store.counts == {"list": 1, "get": 12}
    store.counts.clear()
    store.stale = {}
    operation().entry("k")
    assert store.counts["get"] <= 25


def test_an_operation_that_is_tried_again_writes_once() -> None:
    store = MemoryStore()
    begun: dict[str, int] = {}

    def again(name: str) -> Memory:
        return Memory(store, SCOPE, name, lambda newest: begun.setdefault(name, newest))

    assert again("a").set("k", 1) == 1
    assert again("b").set("k", 2) == 2
    assert again("a").set("k", 1) == 1
    assert again("b").delete("other") is False
    assert again("c").delete("k") is True
    assert again("d").set("k", 4) == 4
    assert again("c").delete("k") is True
    assert [v.operation for v in again("e").history("k")] == ["a", "b", "c", "d"]
    assert again("e").list() == ["k"]


def test_a_large_store_on_disk(tmp_path: Path) -> None:
    store = open_store(f"sqlite:{tmp_path}/m.db")
    operation = operations_on(store)
    for n in range(200):
        operation().set("user/1", {"n": n})
    found = operation().entry("user/1")
    assert found is not None and found.value == {"n": 199}
    store.close()


class Model(RuleBasedStateMachine):
    """Any sequence of operations does what a dict of lists would do."""

    KEYS = st.sampled_from(["a", "a/b", "a.b", "b"])

    def __init__(self) -> None:
        super().__init__()
        self.store = Counting()
        self.operation = operations_on(self.store)
        self.model: dict[str, list[object]] = {}

    def newest(self, key: str) -> object:
        return (self.model.get(key) or [GONE])[-1]

    @rule(key=KEYS, value=st.integers() | st.none() | st.text(max_size=3))
    def set(self, key: str, value: object) -> None:
        versions = self.model.setdefault(key, [])
        versions.append(value)
        assert self.operation().set(key, value) == len(versions)

    @rule(key=KEYS, expect=st.integers(0, 5))
    def set_if(self, key: str, expect: int) -> None:
        versions = self.model.setdefault(key, [])
        if expect == len(versions) or (expect == 0 and self.newest(key) is GONE):
            versions.append(expect)
            assert self.operation().set(key, expect, expect) == len(versions)
        else:
            with pytest.raises(MemoryConflict):
                self.operation().set(key, expect, expect)

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        there = self.newest(key) is not GONE
        assert self.operation().delete(key) is there
        if there:
            self.model[key].append(GONE)

    @rule(key=KEYS)
    def purge(self, key: str) -> None:
        self.store.stale = None
        self.operation().purge(key)
        self.model.pop(key, None)

    @precondition(lambda self: self.store.stale is None)
    @rule()
    def lists_grow_stale(self) -> None:
        prefixes = [f"memory/flow/f/key/{key}/version/" for key in ("a", "a.2fb", "a.2eb", "b")]
        self.store.stale = {prefix: self.store.list(prefix) for prefix in prefixes}

    @rule(key=KEYS, version=st.integers(1, 6))
    def read_a_version(self, key: str, version: int) -> None:
        versions = self.model.get(key, [])
        found = self.operation().entry(key, version)
        wanted = versions[version - 1] if version <= len(versions) else GONE
        assert (GONE if found is None else found.value) == wanted

    @invariant()
    def every_key_is_as_it_should_be(self) -> None:
        for key in ("a", "a/b", "a.b", "b"):
            found = self.operation().entry(key)
            assert (GONE if found is None else found.value) == self.newest(key)
            deleted = [version.deleted for version in self.operation().history(key)]
            assert deleted == [value is GONE for value in self.model.get(key, [])]

    @precondition(lambda self: self.store.stale is None)
    @invariant()
    def lists_are_as_they_should_be(self) -> None:
        live = sorted(key for key in self.model if self.newest(key) is not GONE)
        assert self.operation().list() == live
        assert self.operation().list("a") == [key for key in live if key.startswith("a")]


GONE = object()
TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
