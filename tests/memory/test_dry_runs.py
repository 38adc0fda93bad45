"""A dry run reads the memory that production reads, and changes nothing in it."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from kitaru_targets import registry

from kitaru import KitaruClient
from kitaru.errors import MemoryConflict
from kitaru.ops.verify import verify
from kitaru.runtime.memory.memories import DryRunMemory, Memory
from kitaru.runtime.memory.scopes import MemoryScope
from kitaru.stores.memory import MemoryStore

FLOW = """
    import kitaru
    from kitaru import checkpoint, flow, memory

    @checkpoint
    def work(n: int) -> int:
        return n + 1

    @flow
    def counting(n: int) -> list:
        shared = "namespace:version"
        count = work(memory.get("count", 0, scope=shared))
        memory.set("count", count, scope=shared)
        memory.set("large", "x" * 100_000 + str(count))
        more = memory.get("count", scope=shared) + 1
        memory.set("count", more, expect=2, scope=shared)
        memory.delete("old", scope=shared)
        memory.set("version", n + 1, scope="execution")
        kept = memory.list(scope=shared)
        past = [one.version for one in memory.history("count", scope=shared)]
        again = kitaru.wait(name="ok", schema=bool)
        last = work(memory.get("count", scope=shared))
        own = memory.get("version", scope="execution")
        return [count, more, last, kept, past, len(memory.get("large")), own]
"""
SHARED = "namespace:version"


def remembered(client: KitaruClient) -> dict[str, Any]:
    """Return what production reads: all scopes, keys, values and versions."""
    return {
        f"{scope} {key}": [
            (one.version, one.deleted, one.operation)
            for one in client.memory.history(key, scope=scope)
        ]
        for scope in (one["scope"] for one in client.memory.scopes())
        for key in client.memory.list(scope=scope)
    }


@pytest.mark.parametrize("target", registry.names())
def test_a_dry_run_changes_no_memory(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("counting.py").write_text(dedent(FLOW))
    client = KitaruClient(f"sqlite:{tmp_path}/store.db")
    client.memory.set("count", 10, scope=SHARED)
    client.memory.set("old", 1, scope=SHARED)
    before = remembered(client)

    view = client.dry_run("counting.py", {"n": 1}, target)
    assert view.status == "waiting"
    assert remembered(client) == before
    client.memory.set("count", 99, scope=SHARED)  # by others, while it waits
    view = client.executions.dry_run(view.exec_id, answers={"ok": True})
    result = [11, 12, 13, ["count"], [1, 2, 3], 100_002, 2]
    assert (view.status, view.result) == ("completed", result)

    if target == "kubeflow":
        replayed = client.executions.replay(view.exec_id, start="ok", results={"ok": False})
        again = client.executions.dry_run(replayed.exec_id)
        assert (again.status, again.result) == ("completed", result)
    assert client.memory.get("count", scope=SHARED) == 99
    assert client.memory.list(scope=SHARED) == ["count", "old"]
    assert [one["scope"] for one in client.memory.scopes()] == [SHARED]
    assert verify(client.store).findings == ()


def test_versions_follow_those_of_the_scope() -> None:
    store, scope = MemoryStore(), MemoryScope("namespace", "n")
    shared = Memory(store, scope, "outside")
    for number in range(3):
        Memory(store, scope, f"outside/{number}").set("k", number)

    begun: dict[str, int] = {}

    def dry(operation: str, exec_id: str = "e") -> Memory:
        seen = Memory(store, scope, operation, lambda newest: begun.setdefault(operation, newest))
        return DryRunMemory(seen, exec_id)

    assert dry("0").entry("k") == shared.entry("k")
    assert dry("1").set("k", "dry") == 4
    assert dry("1").set("k", "dry") == 4, "a retry writes once"
    assert Memory(store, scope, "outside/3").set("k", "others") == 4
    assert [one.version for one in dry("2").history("k", 3)] == [2, 3, 4]
    assert [dry("2").entry("k", n).value for n in (1, 3, 4)] == [0, 2, "dry"]  # type: ignore[union-attr]
    assert dry("3").delete("k", 4) and not dry("4").delete("k")
    assert dry("5").list() == [] and shared.list() == ["k"]
    with pytest.raises(MemoryConflict):
        dry("6").set("k", 1, expect=4)
    assert dry("7").set("new", 1, expect=0) == 1 and dry("8").list("n") == ["new"]
    assert DryRunMemory(dry("9"), "replay").set("k", 1) == 6
    assert dry("10").find("k").number == 5  # type: ignore[union-attr]
    other = dry("11", "other").entry("k")
    assert other is not None and (other.value, other.version) == ("others", 4)
