"""What every store promises, held against every kind of store."""

from __future__ import annotations

import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kitaru.errors import UsageError
from kitaru.runtime import codec
from kitaru.runtime.journal import blobs
from kitaru.stores import Store, open_store

SEGMENTS = st.text("ab0_-.Z", min_size=1, max_size=3).filter(lambda s: s not in {".", ".."})
KEYS = st.lists(SEGMENTS, min_size=1, max_size=3).map(lambda parts: "t/" + "/".join(parts))


def test_the_first_create_wins_and_stays(store: Store) -> None:
    assert store.create("a/b", b"first")
    assert not store.create("a/b", b"second")
    assert store.get("a/b") == b"first"


def test_absent_is_none(store: Store) -> None:
    assert store.get("a/b") is None


@pytest.mark.parametrize("value", [b"", b"\0\xff" * 10, b"x" * 300_000], ids=len)
def test_bytes_come_back_as_they_were(store: Store, value: bytes) -> None:
    assert store.create("a/b", value)
    assert store.get("a/b") == value


def test_create_all_says_which_were_new(store: Store) -> None:
    store.create("a/2", b"old")
    objects = [("a/1", b"1"), ("a/2", b"2"), ("a/3", b"3")]
    assert store.create_all(objects) == [True, False, True]
    assert store.get_all(["a/3", "a/2", "a/0", "a/1"]) == [b"3", b"old", None, b"1"]


def test_another_connection_sees_it_at_once(store: Store, url: str) -> None:
    store.create("a/b", b"1")
    other = open_store(url)
    assert other.get("a/b") == b"1"
    assert not other.create("a/b", b"2")
    other.close()


def test_list_is_in_byte_order(store: Store) -> None:
    keys = ["x/e/b", "x/e/a-1", "x/e/a/1", "x/e/a_1", "x/e-1/a", "x/e0/a", "y/a"]
    store.create_all([(key, b"") for key in keys])
    assert store.list("x/e/") == ["x/e/a-1", "x/e/a/1", "x/e/a_1", "x/e/b"]
    assert store.list("none/") == []


def test_list_goes_on_after_a_key_up_to_a_limit(store: Store) -> None:
    keys = [f"x/{n:04d}/{state}" for n in range(12) for state in ("a/1", "b")]
    store.create_all([(key, b"") for key in reversed(keys)])
    assert store.list("x/", after=keys[4], limit=3) == keys[5:8]
    assert store.list("x/", after=keys[-1]) == []
    assert store.list("x/", limit=0) == []


def test_list_finds_what_begins_with_a_part_of_a_segment(store: Store) -> None:
    """As the first characters of an execution's id do; a list of a bucket has 1,000 keys."""
    store.create_all([(f"x/{letter}{n:03d}/a", b"") for letter in "abc" for n in range(400)])
    assert store.list("x/c39", limit=1) == ["x/c390/a"]
    assert store.list("x/b0", after="x/b005/a", limit=2) == ["x/b006/a", "x/b007/a"]
    assert store.list("x/b39") == [f"x/b39{n}/a" for n in range(10)]
    assert store.list("x/bb", limit=1) == []


def test_deleted_is_absent_and_may_be_deleted_again(store: Store) -> None:
    store.create("a/b", b"1")
    store.delete("a/b")
    store.delete("a/b")
    assert store.get("a/b") is None
    assert store.list("a/") == []
    assert store.create("a/b", b"2")


def test_many_are_deleted_at_once_and_no_others(store: Store) -> None:
    store.create_all([(f"a/{n:03d}", b"1") for n in range(12)])
    store.delete(*[f"a/{n:03d}" for n in range(2, 20)])
    assert store.list("a/") == ["a/000", "a/001"]
    store.delete()


def test_several_uses_at_once_give_what_the_first_returns(store: Store) -> None:
    seen: list[str] = []
    ways = [lambda name=name: seen.append(name) for name in "abc"]
    assert store.concurrently(lambda: store.create("a", b"1"), *ways)
    assert sorted(seen) == ["a", "b", "c"]
    with pytest.raises(UsageError):
        store.concurrently(lambda: None, lambda: store.create("a b", b""))


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "../a", "a/./b", "a b", "ä", "a\n", "a%2F", "x" * 600, "a\\b"]
)
def test_keys_outside_the_grammar_are_refused(store: Store, key: str) -> None:
    with pytest.raises(UsageError):
        store.create(key, b"")


def test_of_many_threads_one_creates_each_key(store: Store) -> None:
    threads, keys = 8, [f"race/{n}" for n in range(20)]
    wins: list[tuple[str, bytes]] = []
    gate = threading.Barrier(threads)

    def race(name: bytes) -> None:
        gate.wait()
        wins.extend((key, name) for key in keys if store.create(key, name))

    racers = [threading.Thread(target=race, args=(b"%d" % n,)) for n in range(threads)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert sorted(key for key, _ in wins) == sorted(keys)
    assert [store.get(key) for key, _ in wins] == [name for _, name in wins]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from(["create", "delete", "list"]), KEYS)))
def test_a_store_is_a_dictionary_that_keeps_the_first(
    steps: list[tuple[str, str]],
) -> None:
    # The memory store is the model's twin here; the others are held to it by the tests above.
    from kitaru.stores.memory import MemoryStore

    store, model = MemoryStore(), dict[str, bytes]()
    for number, (step, key) in enumerate(steps):
        value = b"%d" % number
        if step == "create":
            assert store.create(key, value) == (key not in model)
            model.setdefault(key, value)
        elif step == "delete":
            store.delete(key)
            model.pop(key, None)
        else:
            prefix = key[: number % (len(key) + 1)]
            assert store.list(prefix) == sorted(k for k in model if k.startswith(prefix))
        assert store.get(key) == model.get(key)


def test_a_value_in_chunks_comes_back_and_is_copied(store: Store) -> None:
    value = [bytes(range(256)) * 40_000, "é" * 300_000]
    kept = blobs.keep(store, "x/a/", value, "result")
    assert len(store.list("x/a/blob/")) == 3
    copied = blobs.copy_value(store, "x/a/", "x/b/", kept)
    for home, stored in (("x/a/", kept), ("x/b/", copied)):
        assert codec.decode(blobs.load_value(store, home, stored)) == value
