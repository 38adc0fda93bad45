"""`KitaruClient` as Kitaru 0.21 and earlier has it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from kitaru_compiler import check

import kitaru
from kitaru import KitaruClient, checkpoint, errors, flow
from kitaru.client import ExecutionStatus
from kitaru.compat.removed import ATTRIBUTES


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@checkpoint
def research(topic: str) -> str:
    kitaru.save("context", {"topic": topic}, type="context")
    return f"notes on {topic}"


@checkpoint
def draft(notes: str) -> str:
    return f"draft of {notes}"


@flow(cache=False)
def pipeline(topic: str) -> str:
    return draft(research(topic))


FAILED: set[str] = set()


@checkpoint(retries=1)
def twice(topic: str) -> str:
    kitaru.save("context", topic, type="context")
    sys.stdout.write(f"about {topic}\n")
    if kitaru.current_execution_id() not in FAILED:
        FAILED.add(kitaru.current_execution_id())
        raise ValueError("again")
    return topic


@flow(cache=False)
def retried(topic: str) -> str:
    return twice(topic)


@flow
def asks() -> bool:
    return bool(kitaru.wait(name="ok", question="Go?"))


def test_artifacts_are_listed_found_and_loaded() -> None:
    client, handle = KitaruClient(), pipeline.run("owls")
    handle.wait()
    found = client.artifacts.list(handle.exec_id)
    assert [(a.name, a.kind, a.load()) for a in found] == [
        ("context", "saved", {"topic": "owls"}),
        ("research", "result", "notes on owls"),
        ("draft", "result", "draft of notes on owls"),
    ]
    assert [client.artifacts.get(a.id) for a in found] == found
    assert [a.name for a in client.artifacts.list(handle.exec_id, kind="saved")] == ["context"]
    assert [a.name for a in client.artifacts.list(handle.exec_id, name="draft")] == ["draft"]
    with pytest.raises(errors.NotFound):
        client.artifacts.get(f"{handle.exec_id}/nothing/")
    with pytest.raises(errors.NotFound):
        client.artifacts.get("nothing")


def test_an_execution_has_checkpoints_with_artifacts() -> None:
    handle = pipeline.run("owls")
    handle.wait()
    execution = KitaruClient().executions.get(handle.exec_id)
    assert (execution.flow_name, execution.flow_id) == ("pipeline", "pipeline")
    assert [(c.name, c.status, len(c.artifacts)) for c in execution.checkpoints] == [
        ("research", "completed", 2),
        ("draft", "completed", 1),
    ]
    assert len(execution.artifacts) == 3 and execution.pending_wait is None


def test_latest_and_statistics() -> None:
    client = KitaruClient()
    with pytest.raises(errors.NotFound, match="There is no waiting execution of asks"):
        client.executions.latest(flow="asks", status="waiting")
    pipeline.run("a").wait()
    last = asks.run()
    last.settle()
    assert client.executions.latest().exec_id == last.exec_id
    assert client.executions.latest(flow="pipeline").status is ExecutionStatus.COMPLETED
    counts = client.executions.statistics()
    assert (counts["completed"], counts["waiting"], counts["failed"]) == (1, 1, 0)
    assert client.executions.statistics(flow="asks")["completed"] == 0


def test_pending_waits_are_listed_and_aborted() -> None:
    client, handle = KitaruClient(), asks.run()
    handle.settle()
    (wait,) = client.executions.pending_waits(handle.exec_id)
    assert (wait.name, wait.question) == ("ok", "Go?")
    assert client.executions.get(handle.exec_id).pending_wait == wait
    assert client.executions.abort_wait(handle.exec_id, wait="ok").status == "cancelled"


@pytest.mark.parametrize(
    "options",
    [
        {"from_": "draft", "overrides": {"checkpoint.research": "other"}},
        {"at": "draft", "checkpoint_overrides": {"research": {"output": "other"}}},
        {"start": "draft", "results": {"research": "other"}},
    ],
)
def test_replays_with_overrides(options: dict[str, object]) -> None:
    client, handle = KitaruClient(), pipeline.run("owls")
    handle.wait()
    replayed = client.executions.replay(handle.exec_id, **options)  # type: ignore[arg-type]
    assert replayed.wait() == "draft of other"
    (one,) = replayed.results
    assert (one.replay_exec_id, one.source_exec_id) == (replayed.exec_id, handle.exec_id)


def test_replays_with_other_inputs() -> None:
    client, handle = KitaruClient(), pipeline.run("owls")
    handle.wait()
    for options in ({"flow_overrides": {"topic": "bats"}}, {"overrides": {"input.topic": "bats"}}):
        replayed = client.executions.replay(handle.exec_id, **options)  # type: ignore[arg-type]
        assert replayed.wait() == "draft of notes on bats"


@pytest.mark.parametrize(
    "options",
    [
        {"overrides": {"research": "x"}},
        {"overrides": {"step.research": "x"}},
        {"checkpoint_overrides": {"research": "x"}},
        {"checkpoint_overrides": {"research": {"inputs": {}}}},
    ],
)
def test_overrides_of_another_form_are_refused(options: dict[str, object]) -> None:
    handle = pipeline.run("owls")
    handle.wait()
    with pytest.raises(errors.UsageError, match="is not of the form"):
        KitaruClient().executions.replay(handle.exec_id, **options)  # type: ignore[arg-type]


ATTRIBUTE_USES = {
    "Executions": "KitaruClient().executions.{}",
    "ExecutionView": "KitaruClient().executions.get('latest').{}",
    "ScopedMemories": "KitaruClient().memories.{}",
    "Flow": "main.{}",
    "KitaruClient": "KitaruClient().{}",
    "memory": "kitaru.memory.{}",
}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_what_has_no_equivalent_states_what_to_write(name: str, tmp_path: Path) -> None:
    owner, _, attribute = name.partition(".")
    use = ATTRIBUTE_USES[owner].format(attribute)
    path = tmp_path / "program.py"
    path.write_text(
        "import kitaru\nfrom kitaru import KitaruClient, flow\n\n@flow\ndef main(): ...\n\n"
        f"if __name__ == '__main__':\n    {use}\n"
    )
    (found,) = [d for d in check(path)[0] if d.severity == "error"]
    assert (found.code, found.help) == ("KIT412", ATTRIBUTES[name])
    if owner != "memory":
        pipeline.run("owls").wait()
        execution = KitaruClient().executions.latest()
        owners = [KitaruClient(), KitaruClient().executions, KitaruClient().memories, pipeline]
        (one,) = [one for one in [*owners, execution] if type(one).__name__ == owner]
        with pytest.raises(AttributeError, match=re.escape(ATTRIBUTES[name])):
            getattr(one, attribute)


def test_memories_by_scope_and_kind() -> None:
    client = KitaruClient()
    client.memories.set("style/notes", {"tone": "dry"}, scope="docs", scope_type="namespace")
    entry = client.memories.set("style/notes", {"tone": "warm"}, scope="docs")
    assert (entry.key, entry.version, entry.is_deleted) == ("style/notes", 2, False)
    assert (entry.scope, entry.scope_type) == ("docs", "namespace")
    assert client.artifacts.get(entry.artifact_id).load() == {"tone": "warm"}
    assert client.memories.get("style/notes", scope="docs") == entry
    first = client.memories.get("style/notes", scope="docs", version=1)
    assert first is not None
    assert client.artifacts.get(first.artifact_id).load() == {"tone": "dry"}
    assert [one.model_dump()["key"] for one in client.memories.list(scope="docs")] == [
        "style/notes"
    ]
    gone = client.memories.delete("style/notes", scope="docs")
    assert gone is not None and gone.is_deleted
    assert client.memories.get("style/notes", scope="docs") is None
    history = client.memories.history("style/notes", scope="docs")
    assert [(one.version, one.is_deleted) for one in history] == [
        (3, True),
        (2, False),
        (1, False),
    ]
    assert [one["scope"] for one in client.memories.scopes()] == ["namespace:docs"]
    assert client.memories.purge("style/notes", scope="docs") == 3


def test_a_plain_scope_is_the_memory_of_that_name() -> None:
    client = KitaruClient()
    client.memory.set("key", 1, scope="flow:support")
    assert client.memory.get("key", scope="support") == 1
    client.memory.set("key", 2, scope="new")
    assert client.memory.get("key", scope="namespace:new") == 2
    client.memory.set("key", 3, scope="namespace:support")
    with pytest.raises(errors.UsageError, match="several memories") as refused:
        client.memory.get("key", scope="support")
    assert "namespace:support" in refused.value.help


def test_listed_executions_logs_and_artifacts_have_the_earlier_names() -> None:
    client, handle = KitaruClient(), retried.run("owls")
    handle.wait()
    (listed,) = client.executions.list()
    assert (listed.exec_id, listed.flow_name) == (handle.exec_id, "retried")
    assert listed.status is ExecutionStatus.COMPLETED and listed["status"] == "completed"
    found = [*client.executions.logs(handle.exec_id, checkpoint="twice", limit=1)]
    assert [(one.message, one.checkpoint_name) for one in found] == [("about owls", "twice")]
    assert found[0].timestamp == found[0].at
    (saved,) = client.artifacts.list(handle.exec_id, kind="context", producing_call="twice")
    assert (saved.name, saved.save_type) == ("context", "context")
    assert len(client.artifacts.list(handle.exec_id, limit=1)) == 1
    execution = client.executions.get(handle.exec_id)
    (call,) = execution.list_checkpoints()
    assert [attempt.number for attempt in call.attempts] == [1] and execution.failure is None
    assert len(execution.list_artifacts()) == 2
    replayed = client.executions.replay(handle.exec_id, from_="twice", topic="bats")
    assert replayed.wait() == "bats"
