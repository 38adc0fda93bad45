"""Agents of Google ADK in flows: what is recorded, kills, sessions, artifacts, streams, answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import google.adk
import pytest
from google.adk.agents import LiveRequestQueue, LlmAgent, RunConfig
from google.adk.agents.invocation_context import LlmCallsLimitExceededError
from google.adk.agents.run_config import StreamingMode
from google.adk.apps import App
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import InMemoryRunner
from google.adk.tools import FunctionTool, ToolContext
from google.adk.tools.agent_tool import AgentTool
from google.genai import types

from kitaru import checkpoint, errors, flow
from kitaru.adapters.google_adk import KitaruADKRunner, KitaruPlugin
from kitaru.client import KitaruClient
from kitaru.harness import listen
from tests.adapters.common import check_in_a_checkpoint
from tests.adapters.kills import check_each_step
from tests.asynchronous.conftest import Runs, runs
from tests.waiting import wait_until

from . import adk_programs as scripted
from .adk_programs import Calls, agent_of, shown

__all__ = ["runs"]
OLDEST = "2.2.0"
# All steps: `python -m tests.adapters.kills google_adk.adk_programs`.
STEPS = {
    "tools": 2,
    "tools_in_a_plain_flow": 1,
    "teams": 2,
    "streams": 1,
    "approvals": 2,
    "approvals_resumable": 1,
}


@pytest.mark.parametrize("name", scripted.PROGRAMS)
def test_an_agent_killed_at_any_step_repeats_no_recorded_one(name: str, tmp_path: Path) -> None:
    _, kills = check_each_step(scripted, name, tmp_path / "kills", most=STEPS[name])
    assert kills


def resumed(flow_of: Any) -> tuple[Any, Any]:
    """Run a flow that fails once at its end, and return its handle and the resumed result."""
    with pytest.raises(errors.FlowError):
        flow_of.options(exec_id="e").run().wait()
    handle = flow_of.resume("e")
    return handle, handle.wait()


class FailsOnce:
    """Fails when a flow reaches it for the first time."""

    def __init__(self) -> None:
        self._reached = threading.Event()

    def __call__(self) -> None:
        if not self._reached.is_set():
            self._reached.set()
            raise ValueError


def test_outside_of_flows_and_in_checkpoints_the_agent_runs_as_usual(runs: Runs) -> None:
    runner = KitaruADKRunner(agent_of("plain", lambda turn, seen: "yes"))
    assert asyncio.run(runner.run("?")).text == "yes"

    async def ask() -> str:
        return (await runner.run("?")).text

    check_in_a_checkpoint(runs, ask)


def test_all_calls_are_recorded_with_their_usage(runs: Runs, tmp_path: Path) -> None:
    handle = scripted.tools.run("hi")
    handle.wait()
    records = runs.records(handle)
    assert sorted((tmp_path / "ran").read_text().split()) == sorted(records)
    model = records["packer.model"]
    assert model.kind == "llm" and model.fingerprint.startswith("google-adk 2.")
    tool = records["packer.weather-model-0"]
    assert (tool.kind, tool.arguments) == ("tool", {"city": "Oslo"})
    calls = KitaruClient().executions.calls(handle.exec_id)
    assert len(calls) == 5
    first = calls[0]
    assert first["prompt"][-1]["parts"] == [{"text": "hi"}]
    assert first["tokens"] == {"prompt": 10, "completion": 6}
    assert (first["cached_tokens"], first["reasoning_tokens"]) == (2, 1)
    assert (first["resolved"], first["finish"]) == ("scripted-1-001", "stop")
    assert [one["name"] for one in first["tool_calls"]][:3] == ["weather", "weather", "pack"]
    assert all(one["latency_s"] >= 0 for one in calls)


def test_a_request_to_a_known_model_has_its_public_price(runs: Runs) -> None:
    model = scripted.Scripted(turns=lambda turn, seen: "yes", version="gemini-2.5-flash")

    @flow
    async def asks() -> str:
        return (await KitaruADKRunner(LlmAgent(name="priced", model=model)).run("?")).text

    handle = asks.run()
    assert handle.wait() == "yes"
    (call,) = KitaruClient().executions.calls(handle.exec_id)
    assert call["resolved"] == "gemini-2.5-flash" and 0 < call["cost"] < 0.01


def test_a_replay_repeats_what_tools_changed(runs: Runs) -> None:
    fails = FailsOnce()
    live: list[Any] = []

    def change(tool_context: ToolContext) -> str:
        tool_context.state["pair"] = (1, 2)
        tool_context.state["user:name"] = "Ada"
        tool_context.actions.skip_summarization = True
        return "changed"

    agent = agent_of("changer", lambda turn, seen: [("change", {})], change)

    @flow
    async def changes() -> Any:
        result = await KitaruADKRunner(agent).run("?")
        actions = result.events[-1].actions
        live.append([result.session.state, actions.state_delta, actions.skip_summarization])
        fails()
        return live[-1]

    handle, result = resumed(changes)
    state = {"pair": [1, 2], "user:name": "Ada"}
    assert result == [state, state, True] == live[0]
    assert list(runs.records(handle)) == ["changer.model", "changer.change-model-0"]


def test_parallel_tools_that_share_state_keep_each_change(runs: Runs) -> None:
    """A tool that does not wait sees what the one before has written, also after a resume."""
    fails, live = FailsOnce(), list[Any]()

    def add(n: int, tool_context: ToolContext) -> str:
        tool_context.state["all"] = [*tool_context.state.get("all", []), n]
        return str(n)

    def plan(turn: int, seen: list[Any]) -> Calls | str:
        return "end" if seen else [("add", {"n": n}) for n in range(4)]

    @flow
    async def adds() -> Any:
        result = await KitaruADKRunner(agent_of("adder", plan, add)).run("?")
        live.append(result.session.state["all"])
        fails()
        return live[-1]

    assert resumed(adds)[1] == live[0]
    if google.adk.__version__ != OLDEST:
        # That version itself loses changes where it merges the events of parallel tools.
        assert sorted(live[0]) == [0, 1, 2, 3]


def test_a_tool_that_cannot_be_recorded_is_an_error_that_names_it(runs: Runs) -> None:
    @checkpoint(cache=False)
    def inner() -> int:
        return 1

    def calls() -> int:
        return inner()

    def odd() -> Any:
        return {"it": object()}

    def sets(tool_context: ToolContext) -> None:
        tool_context.state["x"] = object()

    async def asks(name: str) -> str:
        agent = agent_of("a", lambda turn, seen: shown(seen) or [(name, {})], calls, odd, sets)
        return (await KitaruADKRunner(agent).run("?")).text

    expected = {
        "calls": r"UsageError: The tool calls makes durable calls itself",
        "odd": r"ValueNotEncodable: The tool odd returned",
        "sets": r"ValueNotEncodable: The tool sets sets the state 'x'",
    }
    for name, text in expected.items():
        with pytest.raises(errors.KitaruError, match=text):
            flow(asks).run(name).wait()


def test_a_failed_request_is_made_once_and_raises_the_same_error_again(runs: Runs) -> None:
    from google.genai.errors import ClientError

    requests, caught, fails = list[int](), list[Exception](), FailsOnce()

    class Down(BaseLlm):
        async def generate_content_async(
            self, llm_request: LlmRequest, stream: bool = False
        ) -> AsyncIterator[LlmResponse]:
            requests.append(1)
            raise ClientError(429, {"error": {"message": "slow down", "status": "BUSY"}})
            yield

    @checkpoint(cache=False)
    def after() -> None: ...

    @flow(retries=2)
    async def asks() -> int:
        try:
            await KitaruADKRunner(LlmAgent(name="down", model=Down(model="m"))).run("?")
        except ClientError as error:
            caught.append(error)
        after()
        fails()
        return int(caught[-1].code)

    assert resumed(asks)[1] == 429
    assert len(requests) == 1
    assert [(type(one), str(one)) for one in caught] == [(ClientError, str(caught[0]))] * 2


def test_a_failed_tool_is_reported_again(runs: Runs) -> None:
    fails, ran, live = FailsOnce(), list[int](), list[Any]()

    def breaks(tool_context: ToolContext) -> str:
        ran.append(1)
        tool_context.state["mood"] = "bad"
        tool_context.state["half"] = 1
        raise KeyError("gone")

    def recover(tool: Any, args: Any, tool_context: ToolContext, error: Exception) -> Any:
        return {"result": f"{type(error).__name__} {error}"}

    agent = agent_of(
        "mender",
        lambda turn, seen: shown(seen) or [("breaks", {})],
        breaks,
        on_tool_error_callback=recover,
    )

    @flow
    async def mends() -> list[Any]:
        result = await KitaruADKRunner(agent).run("?", state={"mood": "good"})
        live.append([result.text, result.session.state])
        fails()
        return live[-1]

    # A failed tool leaves no changes, live as in a replay.
    assert resumed(mends)[1] == live[0] == ["KeyError 'gone'", {"mood": "good"}]
    assert len(ran) == 1


def test_the_limit_of_requests_counts_recorded_ones(runs: Runs) -> None:
    @flow
    async def limited() -> str:
        agent = agent_of("chatty", lambda turn, seen: [("look", {})], FunctionTool(look))
        try:
            await KitaruADKRunner(agent).run("?", run_config=RunConfig(max_llm_calls=2))
        except LlmCallsLimitExceededError:
            return "limited"
        return "not limited"

    handle = limited.run()
    assert handle.wait() == "limited"
    assert [id for id in runs.records(handle) if "model" in id.split(".")[1][:5]] == [
        "chatty.model",
        "chatty.model_2",
    ]


def look() -> str:
    return "saw"


def test_pieces_of_a_response_are_live_only(runs: Runs) -> None:
    pieces, fails = list[str](), FailsOnce()
    agent = agent_of("poet", lambda turn, seen: "roses are red")

    @flow
    async def streams() -> list[str]:
        config = RunConfig(streaming_mode=StreamingMode.SSE)
        texts = []
        with listen(lambda piece: pieces.append(piece.content.parts[0].text)):
            async for event in KitaruADKRunner(agent).run_async("?", run_config=config):
                texts.append(event.content.parts[0].text)
        fails()
        return texts

    assert resumed(streams)[1] == ["roses are red"]
    assert pieces == ["roses ", "are ", "red "]


def test_callbacks_run_again_and_may_change_requests_and_responses(runs: Runs) -> None:
    fails, seen = FailsOnce(), list[str]()

    def before_model(callback_context: Any, llm_request: LlmRequest) -> LlmResponse | None:
        seen.append("model")
        if "blocked" in str(llm_request.contents):
            return LlmResponse(content=types.Content(role="model", parts=[types.Part(text="no")]))
        return None

    def before_tool(tool: Any, args: dict[str, Any], tool_context: ToolContext) -> None:
        args["city"] = "Bern"

    def after_tool(tool: Any, args: Any, tool_context: ToolContext, tool_response: Any) -> Any:
        return {"result": f"{tool_response}!"}

    agent = agent_of(
        "guide",
        lambda turn, seen: shown(seen) or [("weather", {"city": "Oslo"})],
        town,
        before_model_callback=before_model,
        before_tool_callback=before_tool,
        after_tool_callback=after_tool,
    )
    agent.model.turns = lambda turn, seen: shown(seen) or [("town", {"city": "Oslo"})]

    @flow
    async def guides() -> list[str]:
        runner = KitaruADKRunner(agent)
        texts = [(await runner.run(asked)).text for asked in ("?", "blocked")]
        fails()
        return texts

    handle, result = resumed(guides)
    assert result == ["Bern!", "no"]
    assert seen == ["model"] * 6
    records = runs.records(handle)
    assert records["guide.town-model-0"].arguments == {"city": "Bern"}
    assert list(records) == ["guide.model", "guide.town-model-0", "guide.model_2"]


def town(city: str) -> str:
    return city


def test_an_agent_without_plugins_is_one_record_of_its_tool(runs: Runs) -> None:
    inner = AgentTool(agent_of("inner", lambda turn, seen: "found"), include_plugins=False)
    agent = agent_of(
        "outer", lambda turn, seen: shown(seen) or [("inner", {"request": "?"})], inner
    )

    @flow
    async def asks() -> str:
        return (await KitaruADKRunner(agent).run("?")).text

    handle = asks.run()
    assert handle.wait() == "found"
    assert list(runs.records(handle)) == ["outer.model", "outer.inner-model-0", "outer.model_2"]


def test_a_live_connection_is_refused_in_a_flow(runs: Runs) -> None:
    agent = agent_of("desk", lambda turn, seen: shown(seen), town)
    app = App(name="desk", root_agent=agent, plugins=[KitaruPlugin()])

    @flow
    async def talks() -> None:
        runner = InMemoryRunner(app=app)
        await runner.session_service.create_session(app_name="desk", user_id="u", session_id="s")
        queue = LiveRequestQueue()
        async for _ in runner.run_live(user_id="u", session_id="s", live_request_queue=queue):
            pass

    with pytest.raises(errors.FlowError, match="run_live cannot be recorded"):
        talks.run().wait()


def test_the_plugin_works_with_a_runner_of_adk(runs: Runs) -> None:
    fails = FailsOnce()
    agent = agent_of("desk", lambda turn, seen: shown(seen) or [("town", {"city": "Oslo"})], town)
    app = App(name="desk", root_agent=agent, plugins=[KitaruPlugin()])

    @flow
    async def asks() -> list[str]:
        runner = InMemoryRunner(app=app)
        await runner.session_service.create_session(app_name="desk", user_id="u", session_id="s")
        texts = []
        for _ in range(2):
            message = types.Content(role="user", parts=[types.Part(text="?")])
            async for event in runner.run_async(user_id="u", session_id="s", new_message=message):
                texts += [part.text for part in event.content.parts if part.text]
        fails()
        return texts

    handle, result = resumed(asks)
    assert result == ["Oslo", "Oslo"]
    assert list(runs.records(handle)) == [
        *("desk.model", "desk.town-model-0", "desk.model_2"),
        *("desk.model_3", "desk.town-model_3-0", "desk.model_4"),
    ]


# Answers


def answered(handle: Any, answers: dict[str, Any]) -> Any:
    client = KitaruClient()
    assert handle.settle(60) == "waiting"
    wait_until(lambda: len(client.executions.get(handle.exec_id).waits) == len(answers), 60)
    for name in sorted(answers, reverse=True):
        client.executions.input(handle.exec_id, answers[name], wait=name)
    return handle.wait(60)


def test_questions_of_one_turn_are_pending_at_once(runs: Runs, tmp_path: Path) -> None:
    handle = scripted.approvals.run("hi")
    assert handle.settle(60) == "waiting"
    waits = {one.name: one for one in KitaruClient().executions.get(handle.exec_id).waits}
    # The tool that waits itself is asked first: ADK ends a turn when all of its tools have ended.
    assert set(waits) == {"careful.consult-t0c4.consult"}
    KitaruClient().executions.input(handle.exec_id, "fine", wait="careful.consult-t0c4.consult")
    rest = {name: answer for name, answer in scripted.ANSWERS.items() if "consult" not in name}
    wait_until(lambda: len(KitaruClient().executions.get(handle.exec_id).waits) == len(rest), 60)
    waits = {one.name: one for one in KitaruClient().executions.get(handle.exec_id).waits}
    asked = waits["careful.approve-delete-t0c0"]
    assert asked.question == "Run delete(name='a')?"
    assert waits["careful.answer-order-t0c3"].metadata["response"] == {
        "status": "pending", "ticket": "tea"
    }  # fmt: skip
    assert "delete" not in (tmp_path / "ran").read_text()
    assert answered(handle, rest) == [
        "done deleted a+{'error': 'This tool call is rejected.'}+[True, {'days': 3}]"
        "+{'status': 'done'}+hat: fine+Oslo is cold"
    ]


def test_a_long_running_tool_that_is_done_asks_nothing(runs: Runs) -> None:
    from google.adk.tools import LongRunningFunctionTool

    def fast() -> dict[str, str]:
        return {"status": "approved"}

    agent = agent_of(
        "quick",
        lambda turn, seen: shown(seen) or [("fast", {})],
        LongRunningFunctionTool(fast),
    )

    @flow
    async def asks() -> str:
        return (await KitaruADKRunner(agent).run("?")).text

    assert asks.run().wait() == "{'status': 'approved'}"


# Policies


def test_secrets_do_not_enter_records(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    import kitaru

    monkeypatch.setenv("TOKEN", "hunter2hunter2")

    def leaks() -> str:
        return f"token {kitaru.secret('TOKEN')}"

    agent = agent_of("leaky", lambda turn, seen: shown(seen) or [("leaks", {})], leaks)

    @flow
    async def asks() -> str:
        return (await KitaruADKRunner(agent).run("?")).text

    with pytest.raises(errors.KitaruError, match="contains the value of the secret TOKEN"):
        asks.run().wait()


def test_capture_metadata_drops_prompts_and_responses(runs: Runs) -> None:
    agent = agent_of("quiet", lambda turn, seen: "a secret plan")

    @flow(capture="metadata")
    async def asks() -> str:
        return (await KitaruADKRunner(agent).run("classified")).text

    handle = asks.run()
    assert handle.wait() == "a secret plan"
    (call,) = KitaruClient().executions.calls(handle.exec_id)
    assert call["tokens"] == {"prompt": 10, "completion": 6}
    assert "prompt" not in call and "response" not in call
