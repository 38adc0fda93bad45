"""Graphs of LangGraph and agents of LangChain in flows: records, kills, interrupts, refusals."""

from __future__ import annotations

import difflib
import runpy
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langgraph")
pytest.importorskip("langchain")

from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolCall, ToolMessage
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel

import kitaru
from kitaru import Handle, KitaruClient, flow, harness
from kitaru.adapters.langgraph import KitaruGraphRunner, KitaruMiddleware, KitaruSaver
from kitaru.adapters.langgraph.messages import decode, encode
from kitaru.errors import FlowError, ValueNotEncodable
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store
from kitaru.wire.records import InvocationRecord
from tests.asynchronous import programs as traces
from tests.asynchronous import stress

from . import langgraph_programs as programs
from .langgraph_programs import Scripted, State, calling, look, question, search, told

_SECONDS = 120.0
Records = Callable[[Handle[Any]], dict[str, InvocationRecord]]


@pytest.fixture(autouse=True)
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Records]:
    """Return a function that reads the records of an execution."""
    url = f"sqlite:{tmp_path}/kitaru.db"
    monkeypatch.setenv("KITARU_STORE", url)
    monkeypatch.chdir(tmp_path)

    def read(handle: Handle[Any]) -> dict[str, InvocationRecord]:
        return {one.id: one for one in Journal.open(open_store(url), handle.exec_id).invocations()}

    yield read


@pytest.fixture
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the programs run outside of the stress test."""
    for name in ("note_run", "see"):
        monkeypatch.setattr(programs, name, lambda *_: None)
        monkeypatch.setattr(traces, name, lambda *_: None)


@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_killed_graphs_continue_where_they_were(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(stress.PROGRAMS, name, programs.PROGRAMS[name])
    found = stress.stress(name, 1, seed=7, folder=tmp_path, most_kills=3, span=0.5)
    assert found.problems == []
    assert found.ids


@flow
async def streamed_messages() -> list[str]:
    pieces = programs.AGENT.astream(question("hi"), stream_mode="messages")
    return [str(message.text) async for message, _ in pieces]


@pytest.mark.usefixtures("untraced")
class TestRecords:
    """What is recorded."""

    def test_ids_come_from_nodes_and_tool_calls(self, records: Records) -> None:
        handle = programs.wide_graph.run("hi")
        handle.wait(_SECONDS)
        found = records(handle)
        for id in (
            "wide.one-1.look_2",
            "wide.sub-1.q-1.look",
            "wide.nested-1.run-2.p-1.look",
            "wide.each-2-1.tools-2-2.search-call_c",
            "wide.failing-2.look_2",
        ):
            assert id in found
        assert "wide.failing-2.look_3" not in found

    def test_requests_have_tokens_and_texts(self, records: Records) -> None:
        handle = programs.agent_twice.run("hi")
        handle.wait(_SECONDS)
        found = records(handle)
        assert {one.kind for one in found.values()} == {"llm", "tool", "checkpoint"}
        assert found["clerk.model"].metadata["harness"] == "langchain"
        assert "clerk.remember-call_d_2" in found
        calls = KitaruClient().executions.calls(handle.exec_id)
        assert len(calls) == 8
        first = next(call for call in calls if call["invocation"] == "clerk.model")
        assert (first["model"], first["tokens"]) == (
            "scripted-1",
            {"prompt": 1, "completion": 3},
        )
        assert first["prompt"] == [{"role": "user", "content": "hi"}]
        assert [call["name"] for call in first["tool_calls"]] == ["search"] * 3

    def test_ids_of_an_async_agent_contain_no_task_of_the_harness(self, records: Records) -> None:
        handle = programs.agent_async.run("hi")
        handle.wait(_SECONDS)
        found = records(handle).keys() - {"look"}
        assert {id.partition(".")[0] for id in found} == {"clerk"}
        assert {"clerk.model_4", "clerk.search-call_c"} <= found

    def test_nothing_is_recorded_outside_of_flows(self) -> None:
        plain = create_agent(
            Scripted(script=programs.SCRIPT), [search, programs.remember], name="clerk"
        )
        assert told(programs.AGENT.invoke(question("hi"))) == told(plain.invoke(question("hi")))
        runner = KitaruGraphRunner(programs.AGENT)
        assert told(runner.invoke(question("hi"))) == told(plain.invoke(question("hi")))
        assert len(list(runner.stream(question("hi")))) == len(list(plain.stream(question("hi"))))
        assert not Path("kitaru.db").exists()

    def test_a_stream_contains_the_messages_of_each_request(self) -> None:
        handle = streamed_messages.run()
        said = handle.wait(_SECONDS)
        assert said[-1] == "done"
        assert sorted(said[1:4]) == ["found a", "found b", "found c"]

    def test_pieces_are_live_only(self) -> None:
        class Streaming(GenericFakeChatModel):
            def bind_tools(self, *_: Any, **__: Any) -> Any:
                return self

        script = Streaming(messages=iter([AIMessage("a b c")] * 2))
        agent = create_agent(script, [], name="clerk", middleware=[KitaruMiddleware()])

        @flow
        async def both() -> list[list[str]]:
            live: list[str] = []
            with harness.listen(lambda piece: live.append(str(piece.text))):
                pieces = agent.astream(question("hi"), stream_mode="messages")
                seen = [str(message.text) async for message, _ in pieces]
                pieces = agent.stream(question("hi"), stream_mode="messages")
                seen += [str(message.text) for message, _ in pieces]
            return [seen, live]

        seen, live = both.run().wait(_SECONDS)
        assert seen == ["a b c"] * 2
        assert live == ["a", " ", "b", " ", "c"] * 2

    def test_a_runner_streams_and_keeps_the_flow_out_of_its_scope(self, records: Records) -> None:
        runner = KitaruGraphRunner(programs.INNER, name="inner")

        @flow
        def streamed() -> list[str]:
            return [look(",".join(piece)) for piece in runner.stream({"said": []})]

        @flow
        async def astreamed() -> list[str]:
            return [look(",".join(piece)) async for piece in runner.astream({"said": []})]

        for handle in (streamed.run(), astreamed.run()):
            handle.wait(_SECONDS)
            found = [id for id in records(handle) if not id.startswith("inner.")]
            assert sorted(found) == ["look", "look_2"]


class Verdict(BaseModel):
    """A structured response."""

    good: bool
    reason: str = ""


class Other(BaseModel):
    """Another one."""

    good: int


def once(*tools: BaseTool, script: list[AIMessage], **options: Any) -> Any:
    middleware = options.pop("middleware", KitaruMiddleware())
    model = Scripted(script=script)
    return create_agent(model, list(tools), name="clerk", middleware=[middleware], **options)


JUDGE = once(
    script=[AIMessage("", tool_calls=[ToolCall(name="Verdict", args={"good": True}, id="v")])],
    response_format=ToolStrategy(Verdict | Other),
)


@flow
def judged() -> str:
    return repr(JUDGE.invoke(question("hi"))["structured_response"])


@pytest.mark.usefixtures("untraced")
class TestResults:
    """Results that come back as they were."""

    def test_a_structured_response_is_of_its_class_again(self) -> None:
        handle = judged.run()
        assert handle.wait(_SECONDS) == "Verdict(good=True, reason='')"
        replayed = KitaruClient().executions.replay(handle.exec_id)
        assert replayed.wait(_SECONDS) == "Verdict(good=True, reason='')"

    @pytest.mark.parametrize(
        "value",
        [
            [AIMessage("a", id="1", additional_kwargs={"refusal": "no"}), HumanMessage("b")],
            [SystemMessage([{"type": "text", "text": "x"}, {"type": "image", "base64": "AA=="}])],
            ToolMessage("x", tool_call_id="1", artifact={"rows": [1, 2]}, status="error"),
            AIMessage("", tool_calls=[ToolCall(name="f", args={"a": {"b": 1}}, id="c")]),
            AIMessage([{"type": "reasoning", "reasoning": "so"}], response_metadata={"x": 1}),
            Command(update={"n": 1, "messages": [HumanMessage("x")]}, goto=[Send("a", {"m": ()})]),
            Command(graph=Command.PARENT, goto="b", resume={"i": True}),
            {"kitaru": "message", "value": [{"kitaru": 1}]},
            ("a", None, 1.5, [True]),
        ],
    )
    def test_messages_and_commands_are_equal(self, value: Any) -> None:
        assert decode(encode(value)) == value

    @pytest.mark.parametrize("value", [object(), {1: 2}, {1, 2}, b"x"])
    def test_other_values_are_refused(self, value: Any) -> None:
        with pytest.raises(ValueNotEncodable, match=type(value).__name__):
            encode([value])


@tool
def ask_person(text: str) -> str:
    """Ask a person through a wait of the flow."""
    before = look(text)
    return f"{before}, {kitaru.wait(name='person', question=text, schema=str)}"


@tool
def ask_graph(text: str) -> str:
    """Ask a person through an interrupt."""
    return f"{look(text)}, {interrupt(text)}"


@pytest.mark.usefixtures("untraced")
class TestTools:
    """Tools that make durable calls themselves."""

    def test_a_checkpoint_is_a_tool(self, records: Records) -> None:
        agent = once(tool("look")(look), script=[calling("look", "a", "b"), AIMessage("done")])

        @flow
        def looks() -> list[str]:
            return told(agent.invoke(question("hi")))

        handle = looks.run()
        assert handle.wait(_SECONDS)[2:] == ["saw a", "saw b", "done"]
        assert {"clerk.look-call_a.look", "clerk.look-call_b.look"} <= records(handle).keys()

    def test_a_tool_of_the_flow_waits(self, records: Records) -> None:
        agent = once(
            ask_person,
            script=[calling("ask_person", "a"), AIMessage("done")],
            middleware=KitaruMiddleware(flow_tools=["ask_person"]),
        )

        @flow
        def asks() -> list[str]:
            return told(agent.invoke(question("hi")))

        handle = asks.run()
        assert handle.settle(_SECONDS) == "waiting"
        KitaruClient().executions.input(handle.exec_id, "yes")
        assert handle.wait(_SECONDS)[2:] == ["saw a, yes", "done"]
        assert "clerk.ask_person-call_a.look" in records(handle)

    def test_a_tool_that_waits_must_be_named(self) -> None:
        agent = once(ask_person, script=[calling("ask_person", "a"), AIMessage("done")])

        @flow
        def asks() -> list[str]:
            return told(agent.invoke(question("hi")))

        with pytest.raises(FlowError) as caught:
            asks.run().wait(_SECONDS)
        assert "flow_tools=['ask_person']" in f"{caught.value} {caught.value.help}"

    def test_a_tool_that_interrupts_must_be_named(self) -> None:
        @tool
        def only_interrupts(text: str) -> str:
            """Interrupt."""
            return str(interrupt(text))

        script = [calling("only_interrupts", "a")]
        agent = once(only_interrupts, script=script, checkpointer=InMemorySaver())
        runner = KitaruGraphRunner(agent)

        @flow
        async def asks() -> list[str]:
            return told(await runner.ainvoke(question("hi")))

        with pytest.raises(FlowError) as caught:
            asks.run().wait(_SECONDS)
        assert "flow_tools=['only_interrupts']" in f"{caught.value} {caught.value.help}"

    def test_a_named_tool_interrupts_and_finds_its_records_again(self, records: Records) -> None:
        runner = KitaruGraphRunner(
            once(
                ask_graph,
                script=[calling("ask_graph", "a"), AIMessage("done")],
                middleware=KitaruMiddleware(flow_tools=["ask_graph"]),
            )
        )

        @flow
        def asks() -> list[str]:
            return told(runner.invoke(question("hi")))

        handle = asks.run()
        assert handle.settle(_SECONDS) == "waiting"
        KitaruClient().executions.input(handle.exec_id, "yes")
        assert handle.wait(_SECONDS)[2:] == ["saw a, yes", "done"]
        found = [id for id in records(handle) if "look" in id]
        assert found == ["clerk.tools-2-0.ask_graph-call_a.look"]


@pytest.mark.usefixtures("untraced")
class TestInterrupts:
    """Interrupts as waits."""

    def test_a_flow_asks_for_one_interrupt_after_the_other(self, records: Records) -> None:
        handle = programs.interrupted.run("hi")
        for node in "abc":
            assert handle.settle(_SECONDS) == "waiting"
            (wait,) = KitaruClient().executions.pending_waits(handle.exec_id)
            assert (wait.name, wait.question) == (f"asking.{node}", f"{node}?")
            KitaruClient().executions.input(handle.exec_id, node.upper())
        assert handle.wait(_SECONDS)[2::3] == ["A", "B", "C"]
        assert sum("look" in id for id in records(handle)) == 6

    @pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
    def test_an_async_flow_asks_all_at_once(self, order: tuple[str, str], records: Records) -> None:
        handle = programs.interrupted_async.run("hi")
        assert handle.settle(_SECONDS) == "waiting"
        waits = KitaruClient().executions.pending_waits(handle.exec_id)
        assert sorted(wait.name for wait in waits) == ["asking.a", "asking.b"]
        for node in order:
            KitaruClient().executions.input(handle.exec_id, node, wait=f"asking.{node}")
        assert handle.settle(_SECONDS) == "waiting"
        KitaruClient().executions.input(handle.exec_id, {"more": [1]}, wait="asking.c")
        assert handle.wait(_SECONDS)[2::3] == ["a", "b", "{'more': [1]}"]
        assert sum("look" in id for id in records(handle)) == 6

    @pytest.mark.parametrize("no", [False, "Too expensive", {"type": "reject"}])
    def test_a_rejected_tool_does_not_run(self, no: Any, records: Records) -> None:
        handle = programs.reviewed_async.run("hi")
        assert handle.settle(_SECONDS) == "waiting"
        executions = KitaruClient().executions
        executions.input(handle.exec_id, True, wait="clerk.approve_search-0")
        executions.input(handle.exec_id, no, wait="clerk.approve_search-1")
        said = handle.wait(_SECONDS)
        assert "found a" in said
        assert "found b" not in said
        tools = [id for id, one in records(handle).items() if one.kind == "tool"]
        assert tools == ["clerk.tools-3-0.search-call_a"]


@pytest.mark.usefixtures("untraced")
class TestRefusals:
    """What cannot be right."""

    def test_a_checkpointer_of_its_own(self) -> None:
        builder = StateGraph(State)
        builder.add_node("one", programs.looking("one"))
        builder.add_edge(START, "one")
        runner = KitaruGraphRunner(builder.compile(checkpointer=KitaruSaver()))

        @flow
        def twice() -> Any:
            return runner.invoke({"said": []})

        with pytest.raises(FlowError, match="KitaruSaver"):
            twice.run().wait(_SECONDS)

    def test_two_runs_of_one_agent_on_threads_that_nobody_told_apart(self) -> None:
        @flow
        def both() -> Any:
            with ThreadPoolExecutor(2) as pool:
                runs = [
                    pool.submit(copy_context().run, programs.AGENT.invoke, question(text))
                    for text in "ab"
                ]
                return [len(run.result()) for run in runs]

        assert both.run().settle(_SECONDS) == "failed"


def test_the_example_differs_from_a_plain_agent_in_a_few_lines(
    records: Records, untraced: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(__file__).parents[2] / "examples" / "agents"
    plain, durable = (folder / f"support_langchain{end}.py" for end in ("_plain", ""))
    code = [one.read_text().split('"""', 2)[2].split("if __name__")[0] for one in (plain, durable)]
    lines = difflib.unified_diff(*(text.splitlines() for text in code), n=0)
    added = [line for line in lines if line[0] == "+" and line[1:].strip() and line[:3] != "+++"]
    assert len(added) <= 7, added

    call = ToolCall(name="refund", args={"number": 7, "amount": 900}, id="call_1")
    script = [AIMessage("", tool_calls=[call]), AIMessage("It is on its way.")]
    model = Scripted(script=script)
    monkeypatch.setattr("langchain.agents.factory.init_chat_model", lambda name: model)
    example: Any = runpy.run_path(str(durable))
    handle = example["support"].run("Please refund order 7.")
    assert handle.settle(60) == "waiting"
    client = KitaruClient()
    (wait,) = client.executions.get(handle.exec_id).waits
    client.executions.input(handle.exec_id, True, wait=wait.name)
    assert handle.wait(60) == "It is on its way."
    names = [id.rpartition(".")[2] for id in records(handle)]
    assert names == ["model", "approve_refund-0", "refund-call_1", "model"]
