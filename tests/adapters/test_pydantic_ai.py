"""Agents of Pydantic AI in flows: what is recorded, kills, streams, approvals, MCP servers."""

from __future__ import annotations

import asyncio
import difflib
import json
import runpy
import subprocess
import sys
import threading
from collections.abc import AsyncIterable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pydantic_ai")

import pydantic_ai
from pydantic_ai import Agent, ModelHTTPError, RunContext, ToolDenied
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import (
    AgentStreamEvent,
    BinaryContent,
    FunctionToolResultEvent,
    ModelMessage,
    ModelResponse,
    PartDeltaEvent,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.tools import DeferredToolRequests
from pydantic_ai.toolsets import FunctionToolset
from pydantic_ai.usage import RequestUsage

from kitaru import checkpoint, errors, flow
from kitaru.adapters.pydantic_ai import KitaruAgent, KitaruDurability
from kitaru.client import KitaruClient
from kitaru.testing.adapters import AdapterTests
from tests.asynchronous.conftest import Runs, runs
from tests.differential.real import run_dry, run_here
from tests.waiting import wait_until

from . import pydantic_ai_harness
from . import pydantic_ai_programs as scripted
from .common import check_in_a_checkpoint, traces
from .kills import KILLS, check_each_step

__all__ = ["runs", "traces"]

# `run_sync` leaves the event loop of its thread open.
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed", "ignore::pytest.PytestUnraisableExceptionWarning"
)


def ran(folder: Path) -> list[str]:
    return (folder / "ran").read_text().split()


@pytest.mark.slow
@pytest.mark.parametrize("name", scripted.PROGRAMS)
def test_an_agent_killed_at_any_step_repeats_no_recorded_one(name: str, tmp_path: Path) -> None:
    _, kills = check_each_step(scripted, name, tmp_path / "kills", most=KILLS)
    assert kills


@pytest.mark.slow
class TestPydanticAI(AdapterTests):
    harness = pydantic_ai_harness.PydanticAI
    seeds = 1
    calls = KILLS


def test_outside_of_flows_and_in_checkpoints_the_agent_runs_as_usual(runs: Runs) -> None:
    agent: Agent[None, str] = Agent(TestModel(custom_output_text="yes"), name="plain")
    durable = KitaruAgent(agent)
    assert asyncio.run(durable.run("?")).output == agent.run_sync("?").output == "yes"

    async def ask() -> str:
        return (await durable.run("?")).output

    check_in_a_checkpoint(runs, ask)


def test_a_run_may_have_an_id_and_a_time_limit_of_its_own(runs: Runs) -> None:
    durable = KitaruAgent(Agent(TestModel(), name="timed"))

    @flow
    async def two() -> list[str]:
        first = await durable.run("?", run_id="mine", timeout=600)
        return [first.run_id, (await durable.run("?", timeout=600)).run_id]

    handle = two.options(exec_id="e").run()
    assert handle.wait() == ["mine", "e:timed_2"]
    ids = [f"timed{n}.{id}" for n in ("", "_2") for id in ("start", "model")]
    assert list(runs.records(handle)) == ids


def test_all_calls_are_recorded_with_their_usage(runs: Runs, tmp_path: Path) -> None:
    handle = scripted.tools.run("hi")
    output, requests, tool_calls = handle.wait()
    assert output == "done two+Oslo is cold"
    assert (requests, tool_calls) == (7, 9)
    records = runs.records(handle)
    helper = [f"run{n}.helper.{id}" for n in ("", "_2") for id in ("model", "look-t0c0", "model_2")]
    assert set(records) == {
        *[f"triage.{id}" for id in ("model", "model_2", "model_3")],
        *[f"triage.weather-{id}" for id in ("t0c0", "t0c1", "t0c2", "t1c1")],
        *("triage.picky-t0c5", "triage.picky-t1c0", "triage.stock-t0c3.stock"),
        *[f"triage.research-t0c4.{id}" for id in helper],
    }
    assert records["triage.model"].kind == "llm"
    assert records["triage.model"].site.startswith("pydantic_ai_programs.py:")
    assert records["triage.model"].fingerprint.startswith("pydantic-ai 2.")
    tool = records["triage.weather-t0c0"]
    assert (tool.kind, tool.arguments) == ("tool", {"city": "Oslo"})
    calls = KitaruClient().executions.calls(handle.exec_id)
    assert len(calls) == requests
    assert calls[0]["prompt"][0]["parts"][0]["content"] == "hi"
    assert [one["name"] for one in calls[0]["tool_calls"]][:2] == ["weather", "weather"]
    assert calls[-1]["finish"] == "stop"
    assert sorted(ran(tmp_path)) == sorted(records)


def test_usage_of_records_is_that_of_the_run(runs: Runs) -> None:
    async def answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        return ModelResponse(
            parts=[ThinkingPart("hm", signature="s"), TextPart("yes")],
            usage=RequestUsage(input_tokens=1000, output_tokens=20, cache_read_tokens=900),
            model_name="gpt-4o",
            provider_name="openai",
        )

    agent: Agent[None, str] = Agent(FunctionModel(answer, model_name="gpt-4o"), name="priced")

    @flow
    async def asks() -> list[Any]:
        result = await KitaruAgent(agent).run("?")
        return [result.usage.input_tokens, result.usage.output_tokens]

    handle = asks.run()
    assert handle.wait() == [1000, 20]
    (call,) = KitaruClient().executions.calls(handle.exec_id)
    assert call["tokens"] == {"prompt": 1000, "completion": 20}
    assert (call["resolved"], call["cache_read_tokens"]) == ("openai/gpt-4o", 900)
    assert call["cost"] > 0


def test_records_are_documents_that_diff_compares_by_field(runs: Runs) -> None:
    first, second = scripted.tools.run("hi"), scripted.tools.run("ho")
    first.wait(), second.wait()
    found = KitaruClient().executions.diff(first.exec_id, second.exec_id)
    rows = {row.id: row for row in found.rows}
    paths = {one.path for one in rows["triage.model"].differences}
    assert {"$.timestamp", "$[0].parts[0].content"} <= paths


def test_messages_come_back_equal(runs: Runs) -> None:
    parts = [
        ThinkingPart("hm", signature="s", provider_name="p"),
        TextPart("héllo", provider_details={"logprobs": [1.5]}),
        ToolCallPart("look", '{"a": [1, null]}', tool_call_id="c", provider_details={"x": 1}),
    ]
    live: list[ModelResponse] = []
    fails = threading.Event()

    async def answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        if len(messages) > 1:
            return ModelResponse(parts=[TextPart("end")])
        return ModelResponse(parts=parts, provider_response_id="r", finish_reason="tool_call")

    agent: Agent[None, str] = Agent(FunctionModel(answer), name="parts")

    @agent.tool_plain
    def look(a: list[Any]) -> BinaryContent:
        return BinaryContent(b"\x00\x01", media_type="image/png")

    @flow
    async def keeps() -> str:
        result = await KitaruAgent(agent).run("?")
        live.append(result.all_messages())  # type: ignore[arg-type]
        if not fails.is_set():
            fails.set()
            raise ValueError
        return result.run_id

    with pytest.raises(errors.FlowError):
        keeps.options(exec_id="e").run().wait()
    assert keeps.resume("e").wait() == "e:parts"
    first, second = live
    # What the run itself creates has the time of its process.
    assert first[1] == second[1] and first[3] == second[3]
    assert first[2].parts[0].content == second[2].parts[0].content  # type: ignore[index]


# Failures and retries


def test_a_failed_request_is_made_once_and_raises_the_same_error_again(runs: Runs) -> None:
    requests = []

    async def fails(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        requests.append(1)
        raise ModelHTTPError(429, "m", {"error": "slow down"})

    agent: Agent[None, str] = Agent(FunctionModel(fails), name="failing", retries=2)
    caught: list[BaseException] = []
    stops = threading.Event()

    @checkpoint(cache=False)
    def after() -> None: ...

    @flow(retries=2)
    async def asks() -> str:
        try:
            await KitaruAgent(agent).run("?")
        except ModelHTTPError as error:
            caught.append(error)
        after()
        if not stops.is_set():
            stops.set()
            raise ValueError
        return str(caught[-1].status_code)  # type: ignore[attr-defined]

    with pytest.raises(errors.FlowError):
        asks.options(exec_id="e").run().wait()
    assert asks.resume("e").wait() == "429"
    assert len(requests) == 1
    assert [(type(one), str(one)) for one in caught] == [(ModelHTTPError, str(caught[0]))] * 2


def test_an_agent_without_a_name_or_inside_a_tool_is_an_error(runs: Runs) -> None:
    inner = Agent(TestModel(), name="inner", capabilities=[KitaruDurability()])
    outer: Agent[None, str] = Agent(TestModel(), name="outer")

    @outer.tool_plain
    async def asks() -> str:
        return (await inner.run("?")).output

    @flow
    async def nested() -> str:
        return (await KitaruAgent(outer).run("?")).output

    with pytest.raises(
        errors.KitaruError, match=r"inner runs inside the step outer\.asks-"
    ) as error:
        nested.run().wait()
    assert 'metadata={"kitaru": False}' in str(error.value)

    @flow
    async def nameless() -> str:
        return (await KitaruAgent(Agent(TestModel())).run("?")).output

    with pytest.raises(errors.KitaruError, match="unique `name`"):
        nameless.run().wait()


def test_toolsets_of_one_run_are_refused_in_flows(runs: Runs) -> None:
    @flow
    async def adds() -> str:
        toolset = FunctionToolset[None]([lambda: 1], id="late")
        return (await KitaruAgent(Agent(TestModel(), name="a")).run("?", toolsets=[toolset])).output

    with pytest.raises(errors.KitaruError, match="toolset"):
        adds.run().wait()


def test_a_model_that_repeats_the_ids_of_its_calls_is_followed(runs: Runs) -> None:
    async def answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        turn = len(messages) // 2
        if turn == 2:
            return ModelResponse(parts=[TextPart("end")])
        return ModelResponse(parts=[ToolCallPart("look", {"n": turn}, tool_call_id="same")])

    agent: Agent[None, str] = Agent(FunctionModel(answer), name="a")

    @agent.tool_plain
    def look(n: int) -> int:
        return n

    @flow
    async def twice() -> str:
        return (await KitaruAgent(agent).run("?")).output

    handle = twice.run()
    assert handle.wait() == "end"
    assert [id for id in runs.records(handle) if "look" in id] == ["a.look-same", "a.look-same-2"]


# Streams and events


def test_events_reach_a_handler_once(runs: Runs) -> None:
    seen: list[str] = []
    fails = threading.Event()

    async def handler(_: RunContext[None], events: AsyncIterable[AgentStreamEvent]) -> None:
        async for event in events:
            if isinstance(event, PartDeltaEvent):
                seen.append(getattr(event.delta, "content_delta", ""))
            elif isinstance(event, FunctionToolResultEvent):
                seen.append(f"[{event.part.content}]")

    model = scripted.scripted(
        lambda turn, _: "one two" if turn else [("weather", {"city": "Oslo"})]
    )
    agent: Agent[None, str] = Agent(model, name="events")
    agent.tool_plain(scripted.weather)
    durable = KitaruAgent(agent, KitaruDurability(event_stream_handler=handler))

    @flow
    async def asks() -> str:
        output = (await durable.run("?")).output
        if not fails.is_set():
            fails.set()
            raise ValueError
        return output

    with pytest.raises(errors.FlowError):
        asks.options(exec_id="e").run().wait()
    shown = [one for one in seen if one and "{" not in one]
    assert shown == ["[Oslo is cold]", "two "]
    seen.clear()
    assert asks.resume("e").wait() == "one two "
    assert seen == []


def test_a_stream_is_one_piece_in_a_flow_live_and_on_a_replay(runs: Runs) -> None:
    handle = scripted.streams.run("hi")
    pieces, nodes, output = handle.wait()
    assert pieces == ["done two+Oslo is cold "]
    assert nodes[0] == "UserPromptNode" and nodes[-1] == "End" and output.startswith("done")


# Approvals


def answered(handle: Any, answers: dict[str, Any]) -> Any:
    client = KitaruClient()
    assert handle.settle(60) == "waiting"
    # In a plain flow, the waits of a turn are asked on threads.
    wait_until(lambda: len(client.executions.get(handle.exec_id).waits) == len(answers), 60)
    for name in sorted(answers, reverse=True):
        client.executions.input(handle.exec_id, answers[name], wait=name)
    return handle.wait(60)


def test_approvals_of_one_turn_are_pending_at_once(runs: Runs, tmp_path: Path) -> None:
    handle = scripted.approvals.run("hi")
    assert handle.settle(60) == "waiting"
    waits = {one.name: one for one in KitaruClient().executions.get(handle.exec_id).waits}
    assert set(waits) == set(scripted.ANSWERS)
    asked = waits["careful.approve-delete-t0c0"]
    assert asked.question == "Run delete(name='a')?"
    assert asked.metadata == {"tool": "delete", "arguments": {"name": "a"}}
    assert not any("delete" in id for id in ran(tmp_path))
    output, requests = answered(handle, scripted.ANSWERS)
    assert output == "done deleted a+The tool call was denied.+Oslo is cold+guarded 1"
    assert requests == 2
    assert [id for id in ran(tmp_path) if "delete" in id] == ["careful.delete-t0c0-approved"]


def test_external_tools_are_answered_in_a_plain_flow_too(runs: Runs) -> None:
    from pydantic_ai import CallDeferred

    agent: Agent[None, str] = Agent(
        scripted.scripted(
            lambda turn, seen: (
                f"got {scripted.returns(seen)}" if turn else [("fetch", {"n": 1})] * 2
            )
        ),
        name="ext",
    )

    @agent.tool_plain
    def fetch(n: int) -> str:
        raise CallDeferred

    durable = KitaruAgent(agent)

    @flow
    def asks() -> str:
        return durable.run_sync("?").output

    handle = asks.run()
    assert answered(handle, {"ext.answer-fetch-t0c0": [1], "ext.answer-fetch-t0c1": {"a": 2}}) == (
        "got [1]+{'a': 2}"
    )


def test_without_waits_the_run_ends_with_the_requests(runs: Runs) -> None:
    agent = Agent(
        scripted.scripted(lambda turn, seen: scripted._asks(turn, seen)),
        name="careful",
        output_type=[str, DeferredToolRequests],
        capabilities=[KitaruDurability(waits=False)],
    )
    agent.tool_plain(scripted.weather)

    @agent.tool_plain(requires_approval=True)
    async def delete(name: str) -> str:
        return f"deleted {name}"

    @agent.tool_plain
    async def guarded(n: int) -> str:
        return str(n)

    @flow
    async def asks() -> str:
        result = await agent.run("?")
        assert isinstance(result.output, DeferredToolRequests)
        results = result.output.build_results(approve_all=True)
        results.approvals["t0c1"] = ToolDenied("no")
        last = await agent.run(message_history=result.all_messages(), deferred_tool_results=results)
        assert isinstance(last.output, str)
        return last.output

    handle = asks.run()
    assert handle.wait() == "done deleted a+no+Oslo is cold+1"
    assert "careful_2.delete-t0c0-approved" in runs.records(handle)


# Compiled flows

DESK = """
from pydantic_ai import Agent
from kitaru import checkpoint, flow
from kitaru.adapters.pydantic_ai import KitaruDurability

agent = Agent("test", name="desk", capabilities=[KitaruDurability()])

@agent.tool_plain
def order(number: int) -> str:
    return f"Order {number}"

@agent.tool_plain(requires_approval=True)
def refund(number: int) -> str:
    return f"Refunded {number}"

@checkpoint
def store(text: str) -> str:
    return text.upper()

@flow
def main(request: str) -> str:
    first = agent.run_sync(request).output
    second = agent.run_sync(store(first)).output
    return store(second)
"""


@pytest.mark.slow
@pytest.mark.parametrize("target", ["airflow", "vertex"])
def test_agents_run_between_the_steps_of_a_pipeline(target: str, tmp_path: Path) -> None:
    path = tmp_path / "desk.py"
    path.write_text(DESK)
    (tmp_path / "requirements.txt").write_text(f"pydantic-ai-slim=={pydantic_ai.__version__}\n")
    local = run_here(path, "main", {"request": "?"}, lambda _: True, tmp_path)
    assert (local.status, local.result) == (
        "completed", '{"ORDER":"ORDER 0","REFUND":"REFUNDED 0"}'
    )  # fmt: skip
    ids = {one[0] for one in local.invocations}
    for scope in ("desk", "desk_2"):
        assert f"{scope}.approve-refund-pyd_ai_tool_call_id__refund" in ids
    assert run_dry(path, "main", {"request": "?"}, lambda _: True, tmp_path, target) == local


# MCP servers


SERVER = """
import sys
from mcp.server.mcpserver import MCPServer

log = open(sys.argv[1], "a", buffering=1)
print("start", file=log)
server = MCPServer("shop")

@server.tool()
def price(item: str) -> str:
    print("price", item, file=log)
    return f"{item} costs 5"

server.run()
"""


def test_the_tools_of_a_server_are_recorded_and_a_replay_starts_none(
    runs: Runs, tmp_path: Path
) -> None:
    script, log = tmp_path / "server.py", tmp_path / "server.log"
    script.write_text(SERVER)
    server = {"command": sys.executable, "args": [str(script), str(log)]}
    toolset = MCPToolset({"mcpServers": {"shop": server}}, id="shop")
    durable = KitaruAgent(Agent(TestModel(), name="buyer", toolsets=[toolset]))
    fails = threading.Event()

    @flow
    async def buys() -> str:
        output = (await durable.run("?")).output
        if not fails.is_set():
            fails.set()
            raise ValueError
        return output

    with pytest.raises(errors.FlowError):
        buys.options(exec_id="e").run().wait()
    assert log.read_text().splitlines() == ["start", "price a"]
    handle = buys.resume("e")
    assert handle.wait() == '{"price":"a costs 5"}'
    assert log.read_text().count("start") == 1
    assert list(runs.records(handle)) == [
        "buyer.shop-tools",
        "buyer.model",
        "buyer.price-pyd_ai_tool_call_id__price",
        "buyer.model_2",
    ]


def test_import_of_kitaru_imports_no_harness() -> None:
    code = (
        "import sys, kitaru, kitaru.harness, kitaru.adapters; "
        "print([m for m in ('pydantic_ai', 'langchain_core', 'langgraph', 'mcp', 'asyncio') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.replace("'", '"')) == []


# The example


def test_the_example_differs_from_a_plain_agent_in_a_few_lines(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(__file__).parents[2] / "examples" / "agents"
    plain, durable = (folder / name for name in ("support_plain.py", "support.py"))
    code = [one.read_text().split('"""', 2)[2].split("if __name__")[0] for one in (plain, durable)]
    lines = difflib.unified_diff(*(text.splitlines() for text in code), n=0)
    added = [line for line in lines if line[0] == "+" and line[1:].strip() and line[:3] != "+++"]
    assert len(added) <= 5, added

    monkeypatch.setenv("OPENAI_API_KEY", "none")
    example: Any = runpy.run_path(str(durable))
    # The test model calls each tool once.
    example["agent"].model = "test"
    handle = example["support"].run("Please refund order 7.")
    name = "support.approve-refund-pyd_ai_tool_call_id__refund"
    assert "Refunded 0.00 USD for order 0." in answered(handle, {name: True})
