"""Long-term memory for LangGraph, compared with LangGraph's own store in memory."""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langgraph.store")

from langgraph.store.base import GetOp, ListNamespacesOp, MatchCondition, PutOp, SearchOp
from langgraph.store.memory import InMemoryStore

from kitaru.adapters.langgraph import KitaruStore
from kitaru.errors import RecordCorrupt, UsageError, ValueNotEncodable
from kitaru.stores import open_store
from kitaru.stores.memory import MemoryStore
from kitaru.wire import keys

LABELS = ["users", "ada", "é/x", "v1", "*"]
VALUES: list[dict[str, Any]] = [
    {"n": 1, "tags": ["a"]},
    {"n": 2.5, "inner": {"deep": True}},
    {"n": 3, "text": "x"},
    {"n": 0},
]
FILTERS: list[dict[str, Any] | None] = [
    None,
    {"n": 1},
    {"n": {"$gte": 1, "$lt": 3}},
    {"n": {"$ne": 2.5}},
    {"tags": ["a"]},
    {"inner": {"deep": True}},
    {"missing": None},
]


def operation(draw: random.Random) -> Any:
    namespace = tuple(draw.choice(LABELS[:4]) for _ in range(draw.randint(1, 3)))
    key = draw.choice(["one", "two", "thr/ee"])
    match draw.randrange(8):
        case 0 | 1 | 2:
            return PutOp(namespace, key, draw.choice(VALUES))
        case 3:
            return PutOp(namespace, key, None)
        case 4:
            return GetOp(namespace, key)
        case 5 | 6:
            return SearchOp(namespace[: draw.randint(0, 2)], draw.choice(FILTERS), limit=1_000)
    kind: Any = draw.choice(["prefix", "suffix"])
    path = tuple(draw.choice(LABELS) for _ in range(draw.randint(1, 2)))
    # LangGraph's own store lists namespaces without items as well: all that were named in a `get`.
    conditions = (MatchCondition(kind, path), MatchCondition("prefix", ("never",)))
    return ListNamespacesOp(conditions, max_depth=draw.choice([None, 1, 2]))


def shown(result: Any) -> Any:
    if isinstance(result, list):
        return sorted((shown(one) for one in result), key=repr)
    return (result.namespace, result.key, result.value) if hasattr(result, "namespace") else result


@pytest.mark.parametrize("seed", range(20))
def test_the_same_as_the_store_in_memory(seed: int) -> None:
    draw = random.Random(seed)
    ours, theirs = KitaruStore(MemoryStore()), InMemoryStore()
    for _ in range(30):
        batch = [operation(draw) for _ in range(draw.randint(1, 5))]
        assert [shown(one) for one in ours.batch(batch)] == [shown(o) for o in theirs.batch(batch)]


def test_namespaces_are_those_with_items() -> None:
    store = KitaruStore(MemoryStore())
    for namespace in (("a", "b", "v1"), ("a", "c", "v1"), ("a", "c", "v2"), ("d",)):
        store.put(namespace, "key", {"n": 1})
    store.delete(("d",), "key")
    assert store.list_namespaces() == [("a", "b", "v1"), ("a", "c", "v1"), ("a", "c", "v2")]
    assert store.list_namespaces(suffix=("*", "v1")) == [("a", "b", "v1"), ("a", "c", "v1")]
    assert store.list_namespaces(prefix=("a",), max_depth=2) == [("a", "b"), ("a", "c")]
    assert store.list_namespaces(limit=1, offset=2) == [("a", "c", "v2")]


def test_a_search_is_newest_first_in_pages() -> None:
    store = KitaruStore(MemoryStore())
    for key in ("one", "two", "three"):
        store.put(("a",), key, {"n": 1})
    store.put(("a",), "one", {"n": 2})
    assert [item.key for item in store.search(("a",))] == ["one", "three", "two"]
    assert [item.key for item in store.search((), limit=1, offset=1)] == ["three"]


def test_an_item_keeps_the_time_of_its_creation(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/memory.db"
    KitaruStore(url).put(("a",), "key", {"n": 1})
    first = KitaruStore(url).get(("a",), "key")
    asyncio.run(KitaruStore(url).aput(("a",), "key", {"n": 2}))
    second = asyncio.run(KitaruStore(url).aget(("a",), "key"))
    assert first is not None and second is not None and second.value == {"n": 2}
    assert second.created_at == first.created_at < second.updated_at


def test_old_versions_are_deleted() -> None:
    store = MemoryStore()
    memory = KitaruStore(store)
    for number in range(10):
        memory.put(("a",), "key", {"n": number})
    assert len(store.list(keys.adapter("langgraph"))) == 2


def test_writers_at_once_lose_no_item(tmp_path: Path) -> None:
    store = open_store(f"sqlite:{tmp_path}/memory.db")

    def write(name: str) -> None:
        for number in range(10):
            KitaruStore(store).put(("a",), "shared", {"by": name})
            KitaruStore(store).put(("a",), f"{name}-{number}", {"by": name})

    threads = [threading.Thread(target=write, args=(name,)) for name in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert len(KitaruStore(store).search(("a",), limit=100)) == 31


@pytest.mark.parametrize("value", [{"n": float("nan")}, {"n": {1, 2}}, {"n": object()}])
def test_a_value_that_is_not_json(value: dict[str, Any]) -> None:
    with pytest.raises(ValueNotEncodable, match="'key' of \\['a'\\] is not JSON"):
        KitaruStore(MemoryStore()).put(("a",), "key", value)


def test_an_unknown_operator() -> None:
    store = KitaruStore(MemoryStore())
    store.put(("a",), "key", {"n": 1})
    with pytest.raises(UsageError, match=r"\$near"):
        store.search(("a",), filter={"n": {"$near": 1}})


def test_damage_is_an_error() -> None:
    store = MemoryStore()
    KitaruStore(store).put(("a",), "key", {"n": 1})
    (key,) = store.list(keys.adapter("langgraph"))
    store.delete(key)
    store.create(key, b"{}")
    with pytest.raises(RecordCorrupt, match="item"):
        KitaruStore(store).get(("a",), "key")
