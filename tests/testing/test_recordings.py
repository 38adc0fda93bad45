"""A test replays an exported execution: what is unchanged is answered from the recording."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kitaru import KitaruClient
from kitaru.errors import CheckpointFailed, StateError, UsageError
from kitaru.ops.export import export
from kitaru.testing import FlowTest

SOURCE = """
import asyncio
import kitaru
from kitaru import aio, checkpoint, flow

TONE = "kind"
seen = []

@checkpoint
def research(topic: str) -> str:
    seen.append("research")
    return kitaru.llm(f"Research {topic}", model="fast")

@checkpoint
def draft(brief: str) -> str:
    seen.append("draft")
    plan = kitaru.llm(f"Plan {brief}", model="fast")
    return kitaru.llm(f"Write a {TONE} text: {plan}", model="good")

@checkpoint
def fetch(place: str) -> int:
    seen.append("fetch")
    if place == "gone":
        raise ValueError("no such place")
    return len(place)

@checkpoint
def publish(text: str) -> str:
    seen.append("publish")
    return f"url of {text}"

@flow
def review(topic: str) -> str:
    brief = research(topic)
    title = kitaru.llm(f"Title for {brief}", model="good", name="title")
    sizes = [one.result() for one in fetch.map(["here", "there"])]
    try:
        sizes.append(fetch("gone"))
    except ValueError as error:
        sizes.append(str(error))
    text = draft(f"{title}: {sizes}")
    if not kitaru.wait(name="approve", schema=bool, question=f"Publish {text}?"):
        return "rejected"
    return publish(text)

@flow
async def later(topic: str) -> str:
    brief = research(topic)
    approved, size = await asyncio.gather(
        aio.wait(name="approve", schema=bool), fetch.submit(brief)
    )
    return f"{approved} {size}"
"""
WORKS = ["research", "title", "fetch", "fetch_2", "fetch_3", "draft", "approve", "publish"]
Load = Callable[[str], ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Return a function that imports `refund.py` with a given source, as a new process would."""
    monkeypatch.syspath_prepend(tmp_path)

    def imported(source: str) -> ModuleType:
        (tmp_path / "refund.py").write_text(source)
        sys.modules.pop("refund", None)
        importlib.invalidate_caches()
        return importlib.import_module("refund")

    yield imported
    sys.modules.pop("refund", None)


def recorded(module: ModuleType, name: str = "review") -> dict[str, Any]:
    """Run a flow in a store of its own, and return the exported execution."""
    with FlowTest() as flow_test:
        flow_test.script("fast", ["a brief", "a plan"][: 2 if name == "review" else 1])
        if name == "review":
            flow_test.script("good", ["a title", "a text"])
        flow_test.answer("approve", True)
        run = flow_test.run(getattr(module, name), "kayaks")
        return export(flow_test.store, run.exec_id)


def test_everything_unchanged_is_answered_from_the_recording(
    load: Load, flow_test: FlowTest
) -> None:
    document = recorded(load(SOURCE))
    module = load(SOURCE)
    replayed = flow_test.replay(document, module.review)
    assert replayed.run.result == "url of a text"
    assert (replayed.ran, module.seen) == ([], [])
    assert replayed.same, replayed
    assert str(replayed) == "ran: nothing"
    assert [one.id for one in replayed.run.invocations] == WORKS
    assert replayed.run.invocations[4].status == "failed"


def test_a_file_of_the_command_is_a_recording(
    load: Load, flow_test: FlowTest, tmp_path: Path
) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(recorded(load(SOURCE))))
    for recording in (path, str(path)):
        assert flow_test.replay(recording, load(SOURCE).review).same


def test_a_changed_prompt_asks_the_model_and_what_follows_from_it(
    load: Load, flow_test: FlowTest
) -> None:
    document = recorded(load(SOURCE))
    module = load(SOURCE.replace('TONE = "kind"', 'TONE = "short"'))
    flow_test.script("good", ["a short text"])
    replayed = flow_test.replay(document, module.review)
    assert replayed.ran == ["draft", "publish"]
    assert module.seen == ["draft", "publish"]
    # The request of the plan is unchanged, so the recording answers it.
    assert [one["response"] for one in replayed.run.calls if one["invocation"] == "draft"] == [
        "a plan",
        "a short text",
    ]
    assert replayed.run.result == "url of a short text"
    assert not replayed.same
    assert str(replayed).splitlines() == [
        "ran: draft, publish",
        'draft: call 2: prompt: "Write a kind text: a plan" → "Write a short text: a plan"',
        'draft: call 2: response: "a text" → "a short text"',
        'publish: result: "url of a text" → "url of a short text"',
        'result: "url of a text" → "url of a short text"',
    ]


def test_a_changed_prompt_without_a_reply_fails(load: Load, flow_test: FlowTest) -> None:
    document = recorded(load(SOURCE))
    module = load(SOURCE.replace("Plan {brief}", "Outline {brief}"))
    with pytest.raises(CheckpointFailed, match=r"UnexpectedModelCall.*Outline a title"):
        flow_test.replay(document, module.review)


def test_a_changed_tool_runs(load: Load, flow_test: FlowTest) -> None:
    document = recorded(load(SOURCE))
    module = load(SOURCE.replace("return len(place)", "return len(place) * 1"))
    replayed = flow_test.replay(document, module.review)
    assert replayed.ran == ["fetch", "fetch_2", "fetch_3"]
    assert replayed.same


def test_a_changed_model_is_asked(load: Load, flow_test: FlowTest) -> None:
    document = recorded(load(SOURCE))
    flow_test.script("good", ["another title", "another text"])
    flow_test.script("fast", ["another plan"])
    replayed = flow_test.replay(document, load(SOURCE).review, models={"good": "openai/gpt-4o"})
    assert replayed.ran == ["title", "draft", "publish"]


def test_a_changed_input_and_an_injected_result(load: Load, flow_test: FlowTest) -> None:
    document = recorded(load(SOURCE))
    replayed = flow_test.replay(
        document, load(SOURCE).review, inputs={"topic": "owls"}, results={"research": "a brief"}
    )
    assert replayed.ran == []
    assert replayed.run.result == "url of a text"
    assert not replayed.same, "its input differs"


def test_a_wait_that_no_longer_accepts_its_answer_is_asked(load: Load, flow_test: FlowTest) -> None:
    document = recorded(load(SOURCE))
    module = load(SOURCE.replace('name="approve", schema=bool', 'name="approve", schema=str'))
    flow_test.answer("approve", "yes")
    replayed = flow_test.replay(document, module.review)
    assert replayed.ran == ["approve"]
    waiting = flow_test.replay(document, load(SOURCE.replace("approve", "confirm")).review)
    assert (waiting.run.status, waiting.ran) == ("waiting", [])


def test_another_path_runs_what_is_new(load: Load, flow_test: FlowTest) -> None:
    document = recorded(load(SOURCE))
    more = SOURCE.replace("brief = research(topic)", 'brief = research(topic) + publish("x")')
    flow_test.script("*", lambda request: "a reply")
    replayed = flow_test.replay(document, load(more).review)
    assert "publish" in replayed.ran and "research" not in replayed.ran


def test_an_async_flow(load: Load, flow_test: FlowTest) -> None:
    document = recorded(load(SOURCE), "later")
    module = load(SOURCE)
    replayed = flow_test.replay(document, module.later)
    assert replayed.run.result == "True 7"
    assert (replayed.ran, module.seen) == ([], [])
    changed = load(SOURCE.replace("return len(place)", "return 2 * len(place)"))
    assert flow_test.replay(document, changed.later).run.result == "True 14"


def test_the_client_reuses_what_is_unchanged(load: Load, flow_test: FlowTest) -> None:
    load(SOURCE)
    flow_test.script("fast", ["a brief", "a plan"])
    flow_test.script("good", ["a title", "a text"])
    flow_test.answer("approve", True)
    source = flow_test.run(load(SOURCE).review, "kayaks")
    client = KitaruClient()
    handle = client.executions.replay(source.exec_id, reuse_unchanged=True)
    assert handle.wait() == "url of a text"
    record = client.executions.get(handle.exec_id).replay
    assert record is not None and record.unchanged
    with pytest.raises(UsageError, match="has no start"):
        client.executions.replay(source.exec_id, start="draft", reuse_unchanged=True)


def test_errors(load: Load, flow_test: FlowTest, tmp_path: Path) -> None:
    module = load(SOURCE)
    with pytest.raises(UsageError, match="cannot be read"):
        flow_test.replay(tmp_path / "missing.json", module.review)
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(UsageError, match="no exported execution"):
        flow_test.replay(tmp_path / "list.json", module.review)
    with pytest.raises(StateError, match="belongs to review, not to later"):
        flow_test.replay(recorded(module), module.later)
