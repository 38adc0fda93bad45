"""Agents of the OpenAI Agents SDK in flows: records, approvals, sessions, streams, contexts."""

from __future__ import annotations

import asyncio
import difflib
import json
import runpy
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("agents")

import agents
import openai
from agents import (
    Agent,
    InputGuardrailTripwireTriggered,
    LocalShellTool,
    ModelRetrySettings,
    ModelSettings,
    RunConfig,
    RunContextWrapper,
    Runner,
    RunState,
    WebSearchTool,
    function_tool,
    retry_policies,
)
from agents.mcp import MCPServerStdio
from pydantic import BaseModel

from kitaru import checkpoint, errors, flow, harness
from kitaru.adapters.openai_agents import KitaruRunner, KitaruSession, flow_tool
from kitaru.client import KitaruClient
from tests.adapters.common import check_in_a_checkpoint, traces
from tests.adapters.kills import KILLS, check_each_step
from tests.asynchronous.conftest import Runs, runs
from tests.differential.real import run_dry, run_here
from tests.project.test_doc_blocks import blocks_of
from tests.waiting import wait_until

from . import programs
from .programs import Scripted, results
from .scripted import REQUEST, model

__all__ = ["runs", "traces"]

ROOT = Path(__file__).parents[3]


def test_the_private_names_of_the_sdk_are_where_they_were() -> None:
    """The adapter needs these two: see ADR 54. A new version of the SDK may move them."""
    tool = Agent("inner").as_tool("inner", "An agent.")
    assert getattr(tool, "_is_agent_tool", None) is True, (
        f"openai-agents {agents.__version__} marks agents as tools in another way: the adapter "
        "would ask for @flow_tool. Change copies._makes_durable_calls and ADR 54."
    )
    context: RunContextWrapper[Any] = RunContextWrapper(None)
    state: RunState[Any] = RunState(context, "?", Agent("outer"))
    assert getattr(state, "_context", None) is context, (
        f"openai-agents {agents.__version__} keeps the context of a run elsewhere: the usage of an "
        "agent as a tool would be lost after an approval. Change runner._decided and ADR 54."
    )


def answered(handle: Any, answers: dict[str, Any]) -> Any:
    client = KitaruClient()
    assert handle.settle(60) == "waiting"
    # In a plain flow, the waits of a turn are asked on threads.
    wait_until(lambda: len(client.executions.get(handle.exec_id).waits) == len(answers), 60)
    for name in sorted(answers, reverse=True):
        client.executions.input(handle.exec_id, answers[name], wait=name)
    return handle.wait(60)


def made_twice(run: Callable[[], Any]) -> tuple[Any, Any]:
    """Return the results of a run that is live, and of its replay after the flow has failed."""
    found: list[Any] = []

    @flow
    async def twice() -> str:
        found.append(await run())
        if len(found) == 1:
            raise ValueError
        return "done"

    with pytest.raises(errors.FlowError):
        twice.options(exec_id="e").run().wait()
    assert twice.resume("e").wait() == "done"
    return found[0], found[1]


@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_an_agent_killed_at_any_step_repeats_no_recorded_one(name: str, tmp_path: Path) -> None:
    _, kills = check_each_step(programs, name, tmp_path / "kills", most=KILLS)
    assert kills


def test_all_calls_are_recorded_with_their_usage(runs: Runs, tmp_path: Path) -> None:
    handle = programs.desk.run("hi")
    output, state, last, requests, tokens = answered(handle, programs.ANSWERS)
    assert output.endswith('{"assistant": "billing"}+noted+refunded 1+Ask the boss.')
    assert (state, last) == ({"handed": True, "notes": ["seen"]}, "billing")
    # The agent that `ask` runs has a usage of its own.
    assert (requests, tokens) == (6, 72)
    records = runs.records(handle)
    helper = ["helper.model", "helper.search-h0-0", "helper.model_2"]
    assert set(records) == {
        *("triage.model", "triage.model_2", "triage.model_3", "triage.model_4"),
        *("triage.search-t0-0", "triage.weigh-t0-1", "triage.stock-t0-2.stock"),
        *(f"triage.research-t0-3.{id}" for id in helper),
        *(f"triage.ask-t0-4.{id}" for id in helper),
        "triage.guard-on_topic.judge.model",
        *("triage.note-b0-2", "triage.refund-b0-0"),
        *(f"triage.approve-refund-b0-{n}" for n in (0, 1)),
    }
    assert records["triage.model"].kind == "llm"
    assert records["triage.model"].fingerprint == f"openai-agents {agents.__version__}"
    tool = records["triage.search-t0-0"]
    assert (tool.kind, tool.arguments) == ("tool", {"query": "kayak"})
    calls = {one["invocation"]: one for one in KitaruClient().executions.calls(handle.exec_id)}
    first = calls["triage.model"]
    assert first["prompt"] == [{"role": "user", "content": "hi"}]
    assert (first["resolved"], first["tokens"]) == ("scripted-1", {"prompt": 10, "completion": 2})
    assert [one["name"] for one in first["tool_calls"]][:2] == ["search", "weigh"]
    ran = (tmp_path / "ran").read_text().split()
    assert sorted(ran) == sorted(id for id in records if "approve" not in id)


def test_prompts_are_left_out_and_secrets_masked(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_TOKEN", "hunter2-hunter2")
    # This file is the source of the flow.
    monkeypatch.setenv("KITARU_SOURCE", "false")
    agent = Agent[Any](
        name="quiet",
        instructions="The token is hunter2-hunter2.",
        model=model([("tell", {"text": "a"})], "ok"),
        tools=[function_tool(lambda text: text, name_override="tell")],
    )

    @flow(capture="metadata")
    async def asks() -> str:
        return str((await KitaruRunner.run(agent, "Is it hunter2-hunter2?")).final_output)

    handle = asks.run()
    assert handle.wait() == "ok"
    calls = KitaruClient().executions.calls(handle.exec_id)
    assert [call.get("prompt") or "" for call in calls] == ["", ""]
    store = Path(runs.store.removeprefix("sqlite:"))
    assert b"hunter2" not in b"".join(one.read_bytes() for one in store.parent.iterdir())


def test_outside_of_flows_and_in_checkpoints_the_agent_runs_as_usual(runs: Runs) -> None:
    agent = Agent[Any](name="plain", model=model("yes"))
    outside = asyncio.run(KitaruRunner.run(agent, "?"))
    assert outside.final_output == "yes"
    assert outside.last_agent is agent

    async def ask() -> str:
        return str((await KitaruRunner.run(agent, "?")).final_output)

    check_in_a_checkpoint(runs, ask)


def test_an_agent_in_a_tool_is_recorded_with_the_tool(runs: Runs) -> None:
    inner = Agent[Any](name="inner", model=model("deep"))

    @function_tool
    async def dig() -> str:
        return str((await Runner.run(inner, "?")).final_output)

    agent = Agent[Any](name="outer", model=model([("dig", {})], "ok"), tools=[dig])

    @flow
    async def digs() -> str:
        return str((await KitaruRunner.run(agent, "?")).final_output)

    handle = digs.run()
    assert handle.wait() == "ok"
    assert list(runs.records(handle)) == ["outer.model", "outer.dig-m0-0", "outer.model_2"]
    calls = KitaruClient().executions.calls(handle.exec_id)
    assert [one["invocation"] for one in calls] == [
        "outer.model",
        "outer.dig-m0-0",
        "outer.model_2",
    ]


def test_models_come_from_a_provider(runs: Runs) -> None:
    class Provider(agents.ModelProvider):
        closed = 0

        def get_model(self, model_name: str | None) -> Any:
            return model(f"I am {model_name}.")

        async def aclose(self) -> None:
            Provider.closed += 1

    agent = Agent[Any](name="named", model="small")

    @flow
    async def asks() -> list[str]:
        config = RunConfig(model_provider=Provider())
        first = await KitaruRunner.run(agent, "?", run_config=config)
        second = await KitaruRunner.run(
            agent, "?", run_config={"model_provider": Provider(), "model": "large"}
        )
        return [first.final_output, second.final_output]

    handle = asks.run()
    assert handle.wait() == ["I am small.", "I am large."]
    assert list(runs.records(handle)) == ["named.model", "named_2.model"]
    assert Provider.closed == 0


# Failures and retries


def _fails(*failures: BaseException) -> tuple[Any, list[int]]:
    left, requests = list(failures), list[int]()

    class Failing(Scripted):
        async def get_response(self, *args: Any, **options: Any) -> Any:
            requests.append(1)
            if left:
                raise left.pop(0)
            return await super().get_response(*args, **options)

    return Failing(lambda turn, items: "at last"), requests


def _status(code: int) -> openai.APIStatusError:
    import httpx2

    answer = httpx2.Response(code, request=REQUEST, headers={"x-request-id": "r"})
    kind = openai.RateLimitError if code == 429 else openai.BadRequestError
    return kind("no", response=answer, body={"code": "busy"})


def test_the_sdk_retries_and_a_replay_takes_the_same_way(runs: Runs) -> None:
    failing, requests = _fails(_status(429), openai.APITimeoutError(request=REQUEST))
    settings = ModelSettings(
        retry=ModelRetrySettings(
            max_retries=3,
            policy=retry_policies.any(
                retry_policies.network_error(), retry_policies.http_status([429])
            ),
            backoff={"initial_delay": 0.001},
        )
    )
    agent = Agent[Any](name="patient", model=failing, model_settings=settings)

    async def asks() -> list[Any]:
        result = await KitaruRunner.run(agent, "?")
        return [result.final_output, result.context_wrapper.usage.requests]

    live, again = made_twice(asks)
    assert live == again == ["at last", 3]
    assert len(requests) == 3


def test_a_failed_request_is_made_once_and_raises_a_like_error_again(runs: Runs) -> None:
    failing, requests = _fails(_status(400))
    agent = Agent[Any](name="failing", model=failing)

    @checkpoint(cache=False)
    def after() -> None: ...

    async def asks() -> list[Any]:
        try:
            await KitaruRunner.run(agent, "?")
        except openai.APIStatusError as error:
            after()
            return [type(error).__name__, str(error)]
        return []

    live, again = made_twice(asks)
    assert live == again == ["BadRequestError", "no"]
    assert len(requests) == 1


def test_a_failed_tool_is_the_same_after_a_replay(runs: Runs) -> None:
    ran: list[int] = []

    @function_tool
    def breaks() -> str:
        ran.append(1)
        raise ValueError("secret detail")

    @function_tool(failure_error_function=None)
    def raises() -> str:
        ran.append(2)
        raise KeyError("x")

    @checkpoint(cache=False)
    def after() -> None: ...

    async def caught(tool: Any) -> list[str]:
        agent = Agent[Any](
            name=tool.name,
            model=Scripted(lambda turn, items: [(tool.name, {})] if not turn else results(items)),
            tools=[tool],
        )
        try:
            return [(await KitaruRunner.run(agent, "?")).final_output]
        except Exception as error:
            after()
            return [type(error).__name__, str(error)]

    async def both() -> list[Any]:
        return [await caught(breaks), await caught(raises)]

    live, again = made_twice(both)
    assert live == again
    assert "An error occurred while running the tool" in live[0][0]
    assert live[1][0] == "UserError"
    assert ran == [1, 2]


def test_a_guardrail_that_stops_the_run_stops_it_again(runs: Runs) -> None:
    async def no(context: Any, agent: Any, input: Any) -> agents.GuardrailFunctionOutput:
        return agents.GuardrailFunctionOutput("no", True)

    guard = agents.InputGuardrail(no, name="strict guard")
    agent = Agent[Any](name="guarded", model=model("late"), input_guardrails=[guard])

    async def stopped() -> str:
        with pytest.raises(InputGuardrailTripwireTriggered) as caught:
            await KitaruRunner.run(agent, "?")
        return str(caught.value.guardrail_result.guardrail.get_name())

    assert made_twice(stopped) == ("strict guard", "strict guard")


def test_max_turns_is_counted_across_replays(runs: Runs) -> None:
    agent = Agent[Any](
        name="endless",
        model=Scripted(lambda turn, items: [("search", {"query": str(turn)})]),
        tools=[programs.search],
    )

    async def stopped() -> str:
        with pytest.raises(agents.MaxTurnsExceeded):
            await KitaruRunner.run(agent, "?", max_turns=2)
        return "stopped"

    assert made_twice(stopped) == ("stopped", "stopped")


# Approvals


def _deleter(calls: int, *, turns: int = 1) -> tuple[Agent[Any], list[str]]:
    deleted: list[str] = []

    @function_tool(needs_approval=True)
    def delete(name: str) -> str:
        deleted.append(name)
        return f"deleted {name}"

    def turn(number: int, items: list[Any]) -> Any:
        if number == turns:
            return results(items)
        return [("delete", {"name": f"{number}{one}"}) for one in range(calls)]

    return Agent[Any](name="admin", model=Scripted(turn, "c"), tools=[delete]), deleted


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (True, "deleted 00"),
        (False, "Tool execution was not approved."),
        ("Not on a Friday.", "Not on a Friday."),
        ({"approve": False, "message": "No."}, "No."),
    ],
)
def test_an_answer_decides_about_a_tool(answer: Any, found: str, runs: Runs) -> None:
    agent, deleted = _deleter(1)

    @flow
    async def asks() -> str:
        return str((await KitaruRunner.run(agent, "?")).final_output)

    handle = asks.run()
    assert answered(handle, {"admin.approve-delete-c0-0": answer}) == found
    assert deleted == (["00"] if answer is True else [])


def test_an_answer_may_decide_about_all_later_calls(runs: Runs) -> None:
    for approve, expected in ((True, ["00", "10", "20"]), (False, [])):
        agent, deleted = _deleter(1, turns=3)

        @flow
        async def asks(agent: Any = agent) -> str:
            return str((await KitaruRunner.run(agent, "?")).final_output)

        handle = asks.run()
        answered(handle, {"admin.approve-delete-c0-0": {"approve": approve, "always": True}})
        assert deleted == expected
        assert len([id for id in runs.records(handle) if "approve" in id]) == 1


def test_an_answer_of_another_form_is_refused(runs: Runs) -> None:
    agent, _ = _deleter(1)

    @flow
    async def asks() -> str:
        return str((await KitaruRunner.run(agent, "?")).final_output)

    handle = asks.run()
    assert handle.settle(60) == "waiting"
    (wait,) = KitaruClient().executions.get(handle.exec_id).waits
    assert wait.question == "Run delete(name='00')?"
    assert wait.metadata == {"agent": "admin", "tool": "delete", "arguments": {"name": "00"}}
    for wrong in (3, {"aprove": True}, None):
        with pytest.raises(errors.AnswerInvalid):
            KitaruClient().executions.input(handle.exec_id, wrong, wait=wait.name)


def test_an_agent_as_a_tool_asks_in_its_own_scope(runs: Runs) -> None:
    inner, deleted = _deleter(2)
    tool = inner.as_tool("clean", "Clean.")
    agent = Agent[Any](name="boss", model=model([("clean", {"input": "all"})], "ok"), tools=[tool])

    @flow
    async def asks() -> list[Any]:
        result = await KitaruRunner.run(agent, "?")
        return [result.final_output, result.context_wrapper.usage.requests]

    place = "boss.clean-m0-0.admin.approve-delete"
    assert answered(asks.run(), {f"{place}-c0-0": True, f"{place}-c0-1": False}) == ["ok", 4]
    assert deleted == ["00"]


def test_a_run_state_cannot_begin_a_run(runs: Runs) -> None:
    agent, _ = _deleter(1)
    state = asyncio.run(Runner.run(agent, "?")).to_state()

    @flow
    async def asks() -> None:
        await KitaruRunner.run(agent, state)

    with pytest.raises(errors.FlowError, match="A RunState is not part of the journal"):
        asks.run().wait()


# Tools


def test_a_tool_with_durable_calls_must_be_marked(runs: Runs) -> None:
    @checkpoint(cache=False)
    def counted(text: str) -> int:
        return len(text)

    @function_tool
    def count(text: str) -> int:
        return counted(text)

    def agent(tool: Any) -> Agent[Any]:
        return Agent[Any](
            name="counter", model=model([("count", {"text": "four"})], "ok"), tools=[tool]
        )

    @flow
    async def counts(marked: bool) -> str:
        result = await KitaruRunner.run(agent(flow_tool(count) if marked else count), "?")
        return str(result.final_output)

    handle = counts.run(True)
    assert handle.wait() == "ok"
    # The SDK runs `count` on a thread.
    assert "counter.count-m0-0.count.counted" in runs.records(handle)
    with pytest.raises(errors.FlowError, match="The tool count makes durable calls itself"):
        counts.run(False).wait()


def test_hosted_tools_are_left_alone_and_local_ones_refused(runs: Runs) -> None:
    def agent(tool: Any) -> Agent[Any]:
        return Agent[Any](name="seeker", model=model("found"), tools=[tool])

    @flow
    async def seeks(local: bool) -> str:
        tool = LocalShellTool(executor=lambda request: "") if local else WebSearchTool()
        return str((await KitaruRunner.run(agent(tool), "?")).final_output)

    assert seeks.run(False).wait() == "found"
    with pytest.raises(errors.FlowError, match="The agent seeker has a LocalShellTool"):
        seeks.run(True).wait()


SERVER = """
import sys
from mcp.server.mcpserver import MCPServer

log = open(sys.argv[1], "a", buffering=1)
server = MCPServer("shop")

@server.tool()
def price(item: str) -> str:
    print("price", item, file=log)
    return f"{item} costs 5"

server.run()
"""


def test_the_tools_of_a_server_are_recorded(runs: Runs, tmp_path: Path) -> None:
    script, log = tmp_path / "server.py", tmp_path / "server.log"
    script.write_text(SERVER)
    params: Any = {"command": sys.executable, "args": [str(script), str(log)]}

    async def buys() -> list[Any]:
        async with MCPServerStdio(params, name="shop") as server:
            agent = Agent[Any](
                name="buyer",
                model=Scripted(
                    lambda turn, items: [("price", {"item": "oar"})] if not turn else results(items)
                ),
                mcp_servers=[server],
            )
            return [str((await KitaruRunner.run(agent, "?")).final_output)]

    live, again = made_twice(buys)
    assert live == again and "oar costs 5" in live[0]
    assert log.read_text().splitlines() == ["price oar"]
    invocations = KitaruClient().executions.get("e").invocations
    assert [one.id for one in invocations] == [
        *("buyer.shop-tools", "buyer.model", "buyer.price-m0-0"),
        *("buyer.shop-tools_2", "buyer.model_2"),
    ]


# The context of a run


class State(BaseModel):
    seat: str = ""
    seen: list[str] = []
    client: Any = None


def _changer(*calls: tuple[str, dict[str, Any]]) -> Agent[Any]:
    @function_tool
    async def sit(context: RunContextWrapper[State], seat: str) -> str:
        await asyncio.sleep(0)
        context.context.seat = seat
        return seat

    @function_tool
    async def see(context: RunContextWrapper[State], what: str) -> str:
        context.context.seen.append(what)
        await asyncio.sleep(0)
        return what

    return Agent[Any](name="guide", model=model(list(calls), "ok"), tools=[sit, see])


def test_changes_of_the_context_are_made_again(runs: Runs) -> None:
    agent = _changer(("sit", {"seat": "4B"}), ("see", {"what": "sea"}))

    async def guides() -> State:
        state = State(seen=["sky"], client=threading.Lock())
        await KitaruRunner.run(agent, "?", context=state)
        state.client = None
        return state

    live, again = made_twice(guides)
    assert live == again == State(seat="4B", seen=["sky", "sea"])


def test_tools_that_change_one_field_at_once_are_refused(runs: Runs) -> None:
    agent = _changer(("see", {"what": "sea"}), ("see", {"what": "sun"}))

    @flow
    async def guides() -> None:
        await KitaruRunner.run(agent, "?", context=State())

    with pytest.raises(errors.FlowError, match="The tool see changed 'seen' of the run's context"):
        guides.run().wait()


# Sessions


def test_executions_that_add_to_a_session_at_once_lose_no_item(runs: Runs) -> None:
    begin = threading.Barrier(3)

    @checkpoint(cache=False)
    def meet() -> None:
        begin.wait(60)

    @flow
    def adds(name: str) -> None:
        meet()
        session = KitaruSession("shared", scope="namespace:n")
        for number in range(3):
            asyncio.run(session.add_items([{"role": "user", "content": f"{name}{number}"}]))

    handles = [adds.run(name) for name in "abc"]
    for handle in handles:
        handle.wait(60)

    async def read() -> list[Any]:
        session = KitaruSession("shared", scope="namespace:n")
        items = await session.get_items()
        assert await session.get_items(2) == items[-2:] and await session.get_items(0) == []
        assert await session.pop_item() == items[-1]
        await session.clear_session()
        assert await session.get_items() == [] and await session.pop_item() is None
        return [item["content"] for item in items]

    found = asyncio.run(read())
    assert sorted(found) == [f"{name}{number}" for name in "abc" for number in range(3)]
    for name in "abc":
        assert [one for one in found if one[0] == name] == [f"{name}{n}" for n in range(3)]


# Streams


def test_a_stream_is_live_for_listeners_and_whole_for_the_flow(runs: Runs) -> None:
    agent = Agent[Any](name="poet", model=model("Roses are red."))
    live: list[str] = []

    def listen(event: Any) -> None:
        if event.type == "response.output_text.delta":
            live.append(event.delta)

    async def streams() -> list[str]:
        with harness.listen(listen):
            result = KitaruRunner.run_streamed(agent, "?")
            pieces = [
                event.data.delta
                async for event in result.stream_events()
                if event.type == "raw_response_event"
                and event.data.type == "response.output_text.delta"
            ]
        assert result.final_output == "Roses are red."
        return pieces

    assert made_twice(streams) == (["Roses are red."], ["Roses are red."])
    # The replay has no live events.
    assert live == ["Roses ", "are ", "red. "]


def test_a_stream_that_fails_fails_again(runs: Runs) -> None:
    class Broken(Scripted):
        async def stream_response(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
            async for event in super().stream_response(*args, **options):
                if event.type == "response.completed":
                    break
                yield event

    agent = Agent[Any](name="broken", model=Broken(lambda turn, items: "half of"))

    async def streams() -> str:
        result = KitaruRunner.run_streamed(agent, "?")
        with pytest.raises(agents.ModelBehaviorError):
            async for _ in result.stream_events():
                pass
        return "failed"

    assert made_twice(streams) == ("failed", "failed")


# Pipelines

DESK = """
import json
from agents import Agent, Model, ModelResponse, Usage, function_tool
from kitaru import checkpoint, flow
from kitaru.adapters.openai_agents import KitaruRunner
from openai.types.responses import ResponseFunctionToolCall as Call, ResponseOutputMessage

class Scripted(Model):
    def stream_response(self, *args, **options):
        raise NotImplementedError

    async def get_response(self, system_instructions, input, *args, **options):
        found = [item["output"] for item in input if "output" in item]
        if found:
            content = [{"type": "output_text", "text": "+".join(found), "annotations": []}]
            output = [ResponseOutputMessage(
                id="m", role="assistant", type="message", status="completed", content=content
            )]
        else:
            output = [
                Call(arguments=json.dumps({"number": 7}), call_id=f"{name}-1", name=name,
                     type="function_call")
                for name in ("order", "refund")
            ]
        return ModelResponse(output, Usage(requests=1), None)

@function_tool
def order(number: int) -> str:
    return f"Order {number}"

@function_tool(needs_approval=True)
def refund(number: int) -> str:
    return f"Refunded {number}"

agent = Agent(name="desk", model=Scripted(), tools=[order, refund])

@checkpoint
def store(text: str) -> str:
    return text.upper()

@flow
def main(request: str) -> str:
    first = KitaruRunner.run_sync(agent, request).final_output
    second = KitaruRunner.run_sync(agent, store(first)).final_output
    return store(second)
"""


@pytest.mark.parametrize("target", ["airflow", "vertex"])
def test_agents_run_between_the_steps_of_a_pipeline(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_AGENTS_DISABLE_TRACING", "1")
    path = tmp_path / "desk.py"
    path.write_text(DESK)
    (tmp_path / "requirements.txt").write_text(f"openai-agents=={agents.__version__}\n")
    local = run_here(path, "main", {"request": "?"}, lambda _: True, tmp_path)
    assert (local.status, local.result) == ("completed", "ORDER 7+REFUNDED 7")
    ids = {one[0] for one in local.invocations}
    assert {f"{scope}.approve-refund-refund-1" for scope in ("desk", "desk_2")} <= ids
    assert run_dry(path, "main", {"request": "?"}, lambda _: True, tmp_path, target) == local


def test_import_of_kitaru_imports_no_harness() -> None:
    code = (
        "import sys, kitaru, kitaru.harness, kitaru.adapters; "
        "print([m for m in ('agents', 'openai', 'mcp', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.replace("'", '"')) == []


# The page and the example


@pytest.mark.parametrize(
    "block", blocks_of(ROOT / "docs" / "how-to" / "openai-agents.md"), ids=lambda one: one.place
)
def test_the_code_of_the_page_runs(block: Any, tmp_path: Path, runs: Runs) -> None:
    (tmp_path / "page.py").write_text(block.code)
    runpy.run_path(str(tmp_path / "page.py"))


def _desk(turn: int, items: list[Any]) -> Any:
    return [("transfer_to_billing", {})] if turn == 0 else "unused"


def _billing(turn: int, items: list[Any]) -> Any:
    if turn == 0:
        return [("order", {"number": 7}), ("refund", {"number": 7, "amount": 900})]
    return results(items)


def test_the_example_differs_from_a_plain_agent_in_a_few_lines(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, durable = (
        ROOT / "examples" / "agents" / f"{name}.py" for name in ("desk_plain", "desk")
    )
    code = [one.read_text().split('"""', 2)[2].split("if __name__")[0] for one in (plain, durable)]
    lines = difflib.unified_diff(*(text.splitlines() for text in code), n=0)
    added = [line for line in lines if line[0] == "+" and line[1:].strip() and line[:3] != "+++"]
    assert len(added) <= 5, added

    def scripted(example: dict[str, Any]) -> Any:
        example["desk"].model = Scripted(_desk, "d")
        example["billing"].model = Scripted(_billing, "b")
        return example["support"]

    handle = scripted(runpy.run_path(str(durable))).run("Please refund order 7.")
    found = answered(handle, {"desk.approve-refund-b0-1": True})
    assert found.endswith("delivered yesterday.+Refunded 900.00 USD for order 7.")
    monkeypatch.setattr("builtins.input", lambda _: "y")
    support = scripted(runpy.run_path(str(plain)))
    assert asyncio.run(support("Please refund order 7.")) == found
