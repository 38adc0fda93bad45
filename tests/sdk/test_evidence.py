"""Evidence beside a question: what it refers to, and what is stored with it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from kitaru_compiler import compile_flow
from kitaru_targets import build, dry_run, registry

import kitaru
from kitaru import KitaruClient, aio, checkpoint, flow, harness
from kitaru.errors import FlowError
from kitaru.ops.inbox import inbox
from kitaru.ops.verify import verify
from kitaru.runtime.executions.artifacts import find_artifact
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store
from kitaru.stores.memory import MemoryStore

LONG = "w" * 100_000


@checkpoint
def draft(topic: str) -> str:
    kitaru.save("terms", {"b": [1, 2], "a": topic})
    return f"about {topic}"


@checkpoint
def long() -> str:
    return LONG


@flow
def review(topic: str) -> bool:
    text, whole = draft(topic), long()
    found = {"Draft": text, "Long": whole, "Terms": {"b": [1, 2], "a": topic}, "Note": [topic, 3]}
    return bool(kitaru.wait(name="ok", question="Good?", evidence=found))


@flow
async def review_async(topic: str) -> list[Any]:
    made = draft(topic)
    async with harness.scope("agent"):
        asked = harness.wait(name="agent-ok", evidence={"Draft": made})
    return await asyncio.gather(aio.wait(name="ok", evidence={"Draft": made}), asked)


@flow
def blocking(topic: str) -> Any:
    return harness.blocking_wait(name="ok", evidence={"Draft": draft(topic)})


@pytest.fixture
def store() -> MemoryStore:
    # A process knows its runs by the URL of their store, so each test has its own.
    return MemoryStore(f"memory:{secrets.token_hex(4)}")


def entries(store: Any, exec_id: str, wait: str = "ok") -> dict[str, dict[str, Any]]:
    request = Journal.open(store, exec_id).wait_request(wait)
    assert request is not None
    return {entry["name"]: entry for entry in request.evidence}


def test_recorded_values_are_referred_to(store: MemoryStore) -> None:
    review.options(store=store, exec_id="review-1").run("tea").settle(60)
    found = entries(store, "review-1")
    assert [(name, one["invocation"]) for name, one in found.items()] == [
        ("Draft", "draft"), ("Long", "long"), ("Terms", "draft"), ("Note", "")
    ]  # fmt: skip
    for name in ("Draft", "Long", "Terms"):
        value = found[name]["value"]
        assert (value.data, value.blob) == (None, None), "no copy"
        assert value.digest and value.size
    view = KitaruClient(store).executions.get("review-1")
    assert view.evidence("ok") == {
        "Draft": "about tea", "Long": LONG, "Terms": {"b": [1, 2], "a": "tea"}, "Note": ["tea", 3]
    }  # fmt: skip
    [wait] = view.to_dict()["waits"]
    assert [one["artifact"] for one in wait["evidence"]] == [
        f"ok/evidence/{n}" for n in range(1, 5)
    ]
    for one in wait["evidence"]:
        assert find_artifact(view.journal, one["artifact"]).digest == one["digest"]
    assert len(inbox(store).items[0].request.evidence) == 4
    assert view.evidence("other") == {}


def test_a_large_value_that_is_not_recorded(store: MemoryStore) -> None:
    @flow
    def asking() -> Any:
        return kitaru.wait(name="ok", evidence={"Long": LONG + "x"})

    asking.options(store=store, exec_id="asking-1").run().settle(60)
    view = KitaruClient(store).executions.get("asking-1")
    assert view.evidence("ok") == {"Long": LONG + "x"}
    assert verify_finds_nothing(store)


def verify_finds_nothing(store: MemoryStore) -> bool:
    return verify(store).findings == ()


def test_awaited_waits_and_those_of_harnesses(store: MemoryStore) -> None:
    blocking.options(store=store, exec_id="blocking-1").run("tea").settle(60)
    assert entries(store, "blocking-1")["Draft"]["invocation"] == "draft"
    review_async.options(store=store, exec_id="async-1").run("tea").settle(60)
    assert entries(store, "async-1")["Draft"]["invocation"] == "draft"
    names = Journal.open(store, "async-1").pending_names()
    assert len(names) == 2
    for name in names:
        assert entries(store, "async-1", name)["Draft"]["invocation"] == "draft"


def test_a_replay_has_evidence_of_its_own(store: MemoryStore) -> None:
    review.options(store=store, exec_id="review-1").run("tea").settle(60)
    client = KitaruClient(store)
    client.executions.input("review-1", True).wait(60)
    handle = client.executions.replay("review-1", start="ok")
    handle.settle(60)
    assert handle.exec_id != "review-1"
    found = entries(store, handle.exec_id)
    assert found["Draft"]["invocation"] == "draft"
    assert client.executions.get(handle.exec_id).evidence("ok")["Long"] == LONG


FLOW = """
import kitaru
from kitaru import checkpoint, flow

@checkpoint
def draft(topic: str) -> str:
    return f"about {topic}"

@flow
def review(topic: str) -> str:
    text = draft(topic)
    if kitaru.wait(name="ok", question="Good?", evidence={"Draft": text, "Topic": topic}):
        return text
    return ""
"""


@pytest.mark.parametrize("target", ["kubeflow", "sagemaker", "airflow"])
def test_compiled_flows(target: str, tmp_path: Path, evidence_build: Callable[..., Any]) -> None:
    url = f"sqlite:{tmp_path}/store.db"
    made = evidence_build(target)
    exec_id = dry_run.run(made, inputs={"topic": "tea"}, answers={}, store_url=url)
    store = open_store(url)
    found = entries(store, exec_id)
    assert (found["Draft"]["invocation"], found["Topic"]["invocation"]) == ("draft", "")
    view = KitaruClient(url).executions.get(exec_id)
    assert view.evidence("ok") == {"Draft": "about tea", "Topic": "tea"}


@pytest.fixture
def evidence_build(tmp_path: Path) -> Callable[..., Any]:
    def made(target: str) -> build.Build:
        project = tmp_path / "project"
        project.mkdir()
        (project / "flow.py").write_text(dedent(FLOW))
        chosen = registry.get(target)
        compilation = compile_flow(project / "flow.py", profile=chosen.profile)
        return build.write(compilation, chosen, tmp_path / "out")

    return made


@pytest.mark.parametrize("title", ["", "t" * 101, 3])
def test_titles_are_short_strings(title: Any, store: MemoryStore) -> None:
    @flow
    def asking() -> Any:
        return kitaru.wait(name="ok", evidence={title: 1})

    with pytest.raises(FlowError, match="is not a valid title of evidence"):
        asking.options(store=store).run().wait(60)


def test_a_value_that_cannot_be_recorded(store: MemoryStore) -> None:
    @flow
    def asking() -> Any:
        return kitaru.wait(name="ok", evidence={"Lock": object()})

    with pytest.raises(FlowError, match=r"evidence.*Lock"):
        asking.options(store=store).run().wait(60)
