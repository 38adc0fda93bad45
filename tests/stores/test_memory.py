"""A memory on every kind of store: versions, races, lists and purges come out the same."""

from __future__ import annotations

import threading

from kitaru.errors import MemoryConflict
from kitaru.runtime.memory.memories import Memory
from kitaru.runtime.memory.scopes import MemoryScope
from kitaru.stores import Store
from tests.waiting import attempts

LARGE = "large" * 20_000


def operation(store: Store, name: str = "test/1") -> Memory:
    return Memory(store, MemoryScope("namespace", "team"), name)


def test_values_versions_lists_and_purges(store: Store) -> None:
    for number, value in enumerate((1, LARGE, None), 1):
        assert operation(store, f"w/{number}").set("user/1", value) == number
    for key in ("user", "user-2", "user.3"):
        operation(store).set(key, key)
    assert operation(store).list() == ["user", "user-2", "user.3", "user/1"]
    assert operation(store).list("user/") == ["user/1"]
    large = operation(store).entry("user/1", 2)
    assert large is not None and large.value == LARGE
    assert operation(store, "d").delete("user/1")
    assert operation(store).list("user/") == []
    assert [v.deleted for v in operation(store).history("user/1")] == [False, False, False, True]
    assert operation(store, "p").purge("user/1") == 4
    assert operation(store).history("user/1") == []
    assert operation(store).list() == ["user", "user-2", "user.3"]


def test_writers_that_expect_a_version_lose_nothing(store: Store) -> None:
    written: list[int] = []

    def add(writer: int) -> None:
        for number in range(5):
            for _ in attempts():
                memory = operation(store, f"{writer}/{number}")
                entry = memory.entry("count")
                value, version = (entry.value, entry.version) if entry else (0, 0)
                try:
                    written.append(memory.set("count", value + 1, version))
                    break
                except MemoryConflict:
                    continue

    threads = [threading.Thread(target=add, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(written) == list(range(1, 21))
    entry = operation(store).entry("count")
    assert entry is not None and entry.value == 20
