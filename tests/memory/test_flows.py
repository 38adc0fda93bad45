"""Memory in flows and outside: scopes, what is recorded, what a replay sees."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pydantic
import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, errors, flow, memory
from kitaru.config import configure


class Tone(pydantic.BaseModel):
    name: str


@checkpoint
def fail_once(marks: str) -> str:
    path = memory_path(marks)
    if path.exists():
        return "went well"
    path.touch()
    raise ValueError("not yet")


def memory_path(name: str) -> Any:
    from pathlib import Path

    return Path(name)


@flow
def remembers(value: Any) -> list[Any]:
    before = memory.get("k", "nothing")
    version = memory.set("k", value)
    entry = memory.entry("k")
    assert entry is not None
    return [before, version, entry.value, memory.list(), memory.get("other")]


def ids(exec_id: str) -> list[str]:
    return [record.id for record in KitaruClient().executions.get(exec_id).invocations]


def test_what_one_execution_sets_the_next_one_gets() -> None:
    assert remembers.run(1).wait() == ["nothing", 1, 1, ["k"], None]
    handle = remembers.run((2, {3}))
    assert handle.wait() == [1, 2, (2, {3}), ["k"], None]
    assert ids(handle.exec_id) == [
        "memory_get",
        "memory_set",
        "memory_entry",
        "memory_list",
        "memory_get_2",
    ]


def test_a_value_keeps_its_type() -> None:
    assert remembers.run(Tone(name="dry")).wait()[2] == Tone(name="dry")
    client = KitaruClient()
    assert client.memory.get("k", scope="flow:remembers") == Tone(name="dry")
    shown = client.memory.show("k", scope="flow:remembers")
    assert shown is not None and shown["value"] == {"name": "dry"}


@flow
def every_scope(value: str) -> list[Any]:
    for scope in ("namespace", "flow", "execution", "namespace:other"):
        memory.set("k", f"{value} in {scope}", scope=scope)
    scopes = ("namespace:default", "flow:every_scope", "execution", "namespace:other", "flow:x")
    return [memory.get("k", scope=scope) for scope in scopes]


def test_scopes_are_disjoint() -> None:
    handle = every_scope.run("a")
    assert handle.wait() == [
        "a in namespace",
        "a in flow",
        "a in execution",
        "a in namespace:other",
        None,
    ]
    outside = KitaruClient().memory
    assert outside.get("k", scope=f"execution:{handle.exec_id}") == "a in execution"
    assert outside.get("k", scope="namespace") == "a in namespace"
    second = every_scope.run("b")
    second.wait()
    assert outside.get("k", scope=f"execution:{handle.exec_id}") == "a in execution"
    assert [v.version for v in outside.history("k", scope="flow:every_scope")] == [1, 2]


@pytest.mark.parametrize("scope", ["", "planet:x", "namespace:../x", "execution:A", "flow"])
def test_what_is_no_scope_outside(scope: str) -> None:
    with pytest.raises(errors.UsageError):
        KitaruClient().memory.get("k", scope=scope)


def test_an_execution_that_is_not_there_has_no_memory() -> None:
    with pytest.raises(errors.NotFound):
        KitaruClient().memory.get("k", scope="execution:typo")


def test_outside_a_flow_a_scope_must_be_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.UsageError, match="needs a scope") as caught:
        memory.get("k")
    assert "KITARU_MEMORY_SCOPE=" in caught.value.help
    monkeypatch.setenv("KITARU_MEMORY_SCOPE", "namespace:team")
    memory.set("k", 1)
    configure(memory_scope="namespace:mine")
    try:
        assert memory.get("k") is None
    finally:
        configure(memory_scope=None)
    assert memory.get("k", scope="namespace:team") == 1


@pytest.mark.parametrize("kind", ["namespace", "flow", "execution"])
def test_a_scope_whose_name_came_out_empty_is_nobodys(kind: str) -> None:
    @flow
    def forgets(user: str) -> None:
        memory.set("tone", "dry", scope=f"{kind}:{user}")

    with pytest.raises(errors.UsageError, match="not the scope"):
        memory.set("tone", "dry", scope=f"{kind}:")
    with pytest.raises(errors.FlowError, match="not the scope"):
        forgets.run("").wait(60)


@checkpoint
def in_a_checkpoint(how: str) -> None:
    if how == "function":
        memory.get("k")
    elif how == "client":
        KitaruClient().memory.get("k", scope="namespace")
    else:
        memory.purge("k")


@flow
def misuses(how: str) -> None:
    if how == "purge":
        memory.purge("k")
    elif how == "client in the body":
        KitaruClient().memory.set("k", 1, scope="namespace")
    else:
        in_a_checkpoint(how)


@pytest.mark.parametrize("how", ["function", "client", "purge", "client in the body", "both"])
def test_where_memory_has_no_meaning(how: str) -> None:
    with pytest.raises(errors.FlowError) as caught:
        misuses.run(how).wait()
    assert isinstance(caught.value.__cause__, errors.ContextError)


def test_in_a_checkpoint_the_error_says_where_it_belongs() -> None:
    with pytest.raises(errors.FlowError, match="used inside the checkpoint in_a_checkpoint") as e:
        misuses.run("function").wait()
    assert "flow's body" in str(e.value.__cause__)


@flow
def reads_then_fails() -> list[Any]:
    seen = [memory.get("k"), memory.list(), memory.entry("k"), len(memory.history("k"))]
    memory.set("mine", seen[0])
    return [*seen, fail_once("reads_then_fails"), memory.get("k")]


def test_a_resumed_execution_sees_what_it_saw() -> None:
    client = KitaruClient()
    scope = "flow:reads_then_fails"
    client.memory.set("k", "first", scope=scope)
    handle = reads_then_fails.run()
    with pytest.raises(errors.CheckpointFailed):
        handle.wait()
    client.memory.set("k", "second", scope=scope)
    client.memory.purge("mine", scope=scope)
    again = client.executions.retry(handle.exec_id).wait()
    assert again[:2] == ["first", ["k"]]
    assert (again[2].value, again[2].version, again[3]) == ("first", 1, 1)
    assert again[4:] == ["went well", "second"]
    assert client.memory.history("mine", scope=scope) == [], "a recorded write is not done again"


@flow
def compares_and_sets(expect: int) -> Any:
    try:
        return memory.set("k", "mine", expect=expect)
    except errors.MemoryConflict as conflict:
        return f"conflict: version {conflict.version}"


def test_a_conflict_can_be_caught_and_is_recorded() -> None:
    client = KitaruClient()
    scope = "flow:compares_and_sets"
    assert compares_and_sets.run(0).wait() == 1
    handle = compares_and_sets.run(0)
    assert handle.wait() == "conflict: version 1"
    (record,) = client.executions.get(handle.exec_id).invocations
    assert (record.id, record.kind, record.status) == ("memory_set", "memory", "failed")
    assert compares_and_sets.run(1).wait() == 2
    assert client.memory.get("k", scope=scope) == "mine"


@flow
def changes_its_mind(values: list[Any]) -> Any:
    memory.set("k", values)
    return fail_once("changes_its_mind")


def test_another_value_under_the_same_id_is_a_divergence(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = changes_its_mind.run([1])
    with pytest.raises(errors.CheckpointFailed):
        handle.wait()
    module = sys.modules[__name__]
    kept = changes_its_mind.function

    def other(values: list[Any]) -> Any:
        memory.set("k", [*values, 2])
        return "?"

    monkeypatch.setattr(module.changes_its_mind, "function", other)
    with pytest.raises(errors.Diverged, match="memory_set"):
        KitaruClient().executions.retry(handle.exec_id).wait()
    assert kept is not other


def test_a_thread_of_its_own_is_outside_the_flow() -> None:
    raised: list[BaseException] = []

    @checkpoint
    def threads() -> None:
        def read() -> None:
            try:
                memory.get("k")
            except errors.UsageError as error:
                raised.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        thread.join()

    @flow
    def starts_threads() -> None:
        threads()

    starts_threads.run().wait()
    assert len(raised) == 1


@flow
def keeps_large(value: str) -> Any:
    memory.set("k", value)
    return [memory.get("k"), fail_once("keeps_large")]


def test_a_large_value_survives_the_memory_it_was_read_from() -> None:
    handle = keeps_large.run("large" * 50_000)
    with pytest.raises(errors.CheckpointFailed):
        handle.wait()
    client = KitaruClient()
    assert client.memory.purge("k", scope="flow:keeps_large") == 1
    result = client.executions.retry(handle.exec_id).wait()
    assert result == ["large" * 50_000, "went well"]


def test_the_package_offers_it() -> None:
    assert kitaru.memory is memory
