"""A replay starts with the execution-scoped memory that its source had at that point."""

from __future__ import annotations

from typing import Any

from kitaru import KitaruClient, checkpoint, flow, memory

LARGE = "large" * 20_000
asked: list[str] = []


@checkpoint
def step(name: str) -> str:
    asked.append(name)
    return name


@flow
def keeps_notes() -> list[Any]:
    memory.set("notes", [step("first")], scope="execution")
    memory.set("large", LARGE, scope="execution")
    memory.set("gone", 1, scope="execution")
    memory.delete("gone", scope="execution")
    memory.set("shared", "once")
    step("middle")
    memory.set("notes", [*memory.get("notes", scope="execution"), "second"], scope="execution")
    memory.set("late", 1, scope="execution")
    return [
        memory.get("notes", scope="execution"),
        memory.get("large", scope="execution") == LARGE,
        memory.list(scope="execution"),
        [version.version for version in memory.history("notes", scope="execution")],
        len(memory.history("shared")),
    ]


EXPECTED = [["first", "second"], True, ["large", "late", "notes"], [1, 2], 1]


def test_a_replay_goes_on_with_what_was_remembered_by_then() -> None:
    source = keeps_notes.run()
    assert source.wait() == EXPECTED
    asked.clear()
    client = KitaruClient()
    replayed = client.executions.replay(source.exec_id, start="step_2")
    assert replayed.wait() == EXPECTED
    assert asked == ["middle"]
    scope = f"execution:{replayed.exec_id}"
    assert [v.operation for v in client.memory.history("notes", scope=scope)] == [
        f"{replayed.exec_id}/memory_set",
        f"{replayed.exec_id}/memory_set_5",
    ]
    assert [v.deleted for v in client.memory.history("gone", scope=scope)] == [False, True]


def test_a_purged_source_leaves_the_replay_its_own() -> None:
    client = KitaruClient()
    source = keeps_notes.run()
    source.wait()
    replayed = client.executions.replay(source.exec_id, start="step_2")
    replayed.wait()
    client.memory.purge("large", scope=f"execution:{source.exec_id}")
    assert client.memory.get("large", scope=f"execution:{replayed.exec_id}") == LARGE


def test_a_replay_from_the_beginning_remembers_nothing() -> None:
    source = keeps_notes.run()
    source.wait()
    replayed = KitaruClient().executions.replay(source.exec_id)
    assert replayed.wait()[:4] == EXPECTED[:4]
    assert replayed.get()[4] == 2, "other scopes are shared: this one wrote again"


@flow
def is_written_from_outside() -> list[Any]:
    first = step("first")
    seen = memory.get("hint", scope="execution")
    memory.set("hint", "mine", scope="execution")
    return [first, seen, step("last"), len(memory.history("hint", scope="execution"))]


def test_what_others_wrote_before_is_inherited_what_they_wrote_later_is_not() -> None:
    client = KitaruClient()
    source = is_written_from_outside.run()
    assert source.wait() == ["first", None, "last", 1]
    client.memory.set("hint", "later", scope=f"execution:{source.exec_id}")
    again = client.executions.replay(source.exec_id, start="memory_set")
    assert again.wait() == ["first", None, "last", 1]
    later = client.executions.replay(source.exec_id, start="step_2")
    assert later.wait() == ["first", None, "last", 2]
