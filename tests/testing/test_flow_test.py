"""`kitaru.testing` runs flows with scripted models and answers, on a store of their own."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

import kitaru
from kitaru import KitaruClient, Reply, ToolCall, aio, checkpoint, flow, memory
from kitaru.errors import AnswerInvalid, CheckpointFailed, ModelRequestError, UsageError
from kitaru.testing import (
    Answer,
    FlowTest,
    NetworkRefused,
    StillRunning,
    UnexpectedModelCall,
    UnusedReplies,
)
from kitaru.testing import flow_test as module
from tests import forks

pytest_plugins = ["pytester"]


@dataclass
class City:
    name: str
    size: int


@checkpoint
def research(topic: str) -> str:
    return kitaru.llm(f"Research {topic}", model="fast")


@flow
def review(topic: str) -> str:
    brief = research(topic)
    city = kitaru.llm("Which city?", schema=City, name="place")
    sizes = kitaru.llm("Sizes?", schema=list[int], name="sizes")
    approved = kitaru.wait(name="approve", schema=bool, metadata={"limit": 3})
    return f"{brief} {city.name} {sum(sizes)} {approved}"


def test_a_flow_with_scripted_models_and_answers(flow_test: FlowTest) -> None:
    flow_test.script("fast", ["A brief.", City("Rome", 3), [1, 2]])
    flow_test.answer("approve", lambda request: request.metadata["limit"] == 3)
    run = flow_test.run(review, topic="kayaks")
    assert run.result == "A brief. Rome 3 True"
    assert [call.id for call in run.invocations] == ["research", "place", "sizes", "approve"]
    assert [call["prompt"] for call in run.calls] == ["Research kayaks", "Which city?", "Sizes?"]
    assert run.effort.tokens == (2 + 2) + (2 + 4) + (1 + 3)


def test_an_answer_sets_tokens_and_cost(flow_test: FlowTest) -> None:
    @flow
    def ask() -> str:
        return kitaru.llm("Hm?", model="fast")

    flow_test.script("fast", [Answer("Yes.", prompt_tokens=900, completion_tokens=7, cost=0.5)])
    run = flow_test.run(ask)
    assert (run.effort.tokens, run.effort.cost) == (907, 0.5)


def test_a_conversation_with_tools(flow_test: FlowTest) -> None:
    @flow
    def agent() -> str:
        said: list[dict[str, Any]] = [{"role": "user", "content": "Sum?"}]
        for _ in range(3):
            reply = kitaru.llm(said, tools=[{"type": "function"}])
            if not reply.tool_calls:
                return reply.text
            results = [call.answer(sum(call.arguments["of"])) for call in reply.tool_calls]
            said = [*said, reply.message(), *results]
        return "too many turns"

    asked = Reply("", (ToolCall("1", "sum", {"of": [1, 2]}),))
    flow_test.script("fast", [asked, Reply("3")])
    run = flow_test.run(agent)
    assert run.result == "3"
    assert run.calls[1]["prompt"][-1] == {"role": "tool", "tool_call_id": "1", "content": "3"}


def test_a_stream_arrives_word_by_word(flow_test: FlowTest) -> None:
    pieces: list[str] = []

    @flow
    def tell() -> str:
        return kitaru.llm("Tell.", stream=pieces.append)

    flow_test.script("fast", ["One two\n three."])
    assert flow_test.run(tell).result == "One two\n three."
    assert pieces == ["One ", "two\n ", "three."]


def test_a_function_answers_calls_that_run_at_once(flow_test: FlowTest) -> None:
    @flow
    def many() -> list[str]:
        return research.map(["a", "b", "c"]).result()

    flow_test.script("*", lambda request: str(request.prompt).upper())
    assert flow_test.run(many).result == ["RESEARCH A", "RESEARCH B", "RESEARCH C"]


def test_a_failing_model(flow_test: FlowTest) -> None:
    flow_test.script("fast", [ModelRequestError("Too many requests.", status=429)])
    with pytest.raises(CheckpointFailed, match="Too many requests"):
        flow_test.run(review, "kayaks")
    (failed,) = flow_test.executions
    assert failed.status == "failed" and failed.attempts[0].id == "research"


def test_a_wait_without_an_answer(flow_test: FlowTest) -> None:
    flow_test.script("fast", ["A brief.", City("Rome", 3), [1]])
    run = flow_test.run(review, "kayaks")
    assert run.status == "waiting"
    assert [wait.name for wait in run.waits] == ["approve"]
    flow_test.answer("approve", False)
    assert flow_test.resume(run).result == "A brief. Rome 1 False"


def test_an_answer_of_the_wrong_type(flow_test: FlowTest) -> None:
    flow_test.script("fast", ["A brief.", City("Rome", 3), [1]])
    flow_test.answer("approve", "perhaps")
    with pytest.raises(AnswerInvalid, match="approve"):
        flow_test.run(review, "kayaks")


def test_a_call_that_no_reply_was_set_for(flow_test: FlowTest) -> None:
    with pytest.raises(CheckpointFailed) as failed:
        flow_test.run(review, "kayaks")
    assert isinstance(failed.value.__cause__, UnexpectedModelCall)
    assert '"fast": Research kayaks' in str(failed.value.__cause__)


def test_replies_that_nobody_asked_for() -> None:
    with pytest.raises(UnusedReplies, match="2 of 'fast', 1 of 'slow'"), FlowTest() as one:
        one.script("fast", ["a", "b"])
        one.script("slow", ["c"])


def test_a_failed_test_reports_its_own_error() -> None:
    with pytest.raises(ZeroDivisionError), FlowTest() as one:
        one.script("fast", ["a"])
        raise ZeroDivisionError


@pytest.mark.parametrize("replies", ["a text", {"name": "Rome"}])
def test_one_reply_instead_of_a_list(flow_test: FlowTest, replies: Any) -> None:
    with pytest.raises(UsageError, match="fast"):
        flow_test.script("fast", replies)


def test_an_async_flow(flow_test: FlowTest) -> None:
    @checkpoint
    async def fetch(source: str) -> str:
        return await aio.llm(f"Read {source}", model="fast")

    @flow
    async def gather(sources: list[str]) -> list[str]:
        texts = await asyncio.gather(*[fetch(source) for source in sources])
        first, second = await asyncio.gather(aio.wait(name="one"), aio.wait(name="two"))
        return [*texts, f"{first} {second}"]

    flow_test.script("fast", lambda request: str(request.prompt).upper())
    flow_test.answer("one", True)
    run = flow_test.run(gather, ["a", "b"])
    assert [wait.name for wait in run.waits] == ["two"]
    flow_test.answer("two", False)
    assert flow_test.resume(run).result == ["READ A", "READ B", "True False"]


@flow
def remembering() -> int:
    seen = int(memory.get("seen", 0)) + 1
    memory.set("seen", seen)
    return seen


@pytest.mark.parametrize("time", [1, 2])
def test_each_test_has_an_empty_store(flow_test: FlowTest, time: int) -> None:
    assert [flow_test.run(remembering).result for _ in range(2)] == [1, 2]
    assert len(KitaruClient().executions.list()) == 2


def test_the_end_of_a_test_waits_for_its_flows() -> None:
    said: list[str] = []
    may_go = threading.Event()

    @checkpoint
    def slow() -> None:
        may_go.wait(240)

    @flow
    def late() -> None:
        slow()
        said.append(kitaru.llm("Hm?", model="fast"))

    with FlowTest() as one:
        one.script("fast", ["The test's own."])
        late.run()
        threading.Timer(0.05, may_go.set).start()
    assert said == ["The test's own."]


def test_a_flow_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.01)
    stop = threading.Event()

    @flow
    def endless() -> None:
        stop.wait(240)

    with pytest.raises(StillRunning, match="endless"), FlowTest():
        endless.run()
    stop.set()


def test_nothing_of_a_test_stays() -> None:
    before = dict(os.environ), socket.socket.connect, socket.getaddrinfo
    moment = time.time()
    with FlowTest() as one:
        one.run(remembering)
        one.freeze("2001-01-31T09:00:00+01:00")
    assert (dict(os.environ), socket.socket.connect, socket.getaddrinfo) == before
    assert moment <= time.time() and moment <= datetime.now(UTC).timestamp()


def test_a_frozen_clock(flow_test: FlowTest) -> None:
    @flow
    def when() -> str:
        return datetime.now(UTC).isoformat()

    flow_test.freeze("2026-01-31T09:00:00+01:00")
    run = flow_test.run(when)
    assert run.result == "2026-01-31T08:00:00+00:00"
    assert run.started_at == "2026-01-31T08:00:00.000000Z"


def test_nothing_waits_for_time(flow_test: FlowTest) -> None:
    @flow
    def reminder() -> list[str]:
        kitaru.sleep(timedelta(days=2))
        answer = kitaru.wait(name="ok", schema=str, deadline=timedelta(days=1), default="nobody")
        return [answer, kitaru.now().isoformat()]

    flow_test.freeze("2026-01-31T09:00:00Z")
    assert flow_test.run(reminder).result == ["nobody", "2026-02-03T09:00:00+00:00"]


def test_events_come_when_the_flow_waits_for_them(flow_test: FlowTest) -> None:
    @flow
    def paying(order: int) -> list[Any]:
        first = kitaru.wait_event("checked", where="data.ok")
        paid = kitaru.wait_event("paid", match={"order": order})
        late = kitaru.wait_event("late", deadline=timedelta(days=1), default=0)
        return [first, paid["n"], late]

    flow_test.event("paid", {"order": 7, "n": 1})
    flow_test.event("checked", {"ok": False})
    flow_test.event("checked", {"ok": True})
    run = flow_test.run(paying, 7)
    assert run.result == [{"ok": True}, 1, 0]
    waiting = flow_test.run(paying, 8)
    assert [one.event["name"] for one in waiting.events] == ["checked"]
    flow_test.event("checked", {"ok": True})
    assert [one.event["match"] for one in flow_test.resume(waiting).events] == [{"order": 8}]
    with pytest.raises(UsageError):
        flow_test.event("a b")


class Here(BaseHTTPRequestHandler):
    """Answers on this machine."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"here")

    def log_message(self, *_: Any) -> None:
        pass


def test_this_machine_is_reached_and_no_other(flow_test: FlowTest) -> None:
    with HTTPServer(("127.0.0.1", 0), Here) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        assert urlopen(f"http://localhost:{server.server_port}").read() == b"here"
        server.shutdown()
        thread.join(60)
    with pytest.raises(NetworkRefused, match=r"example\.com"):
        urlopen("http://example.com")
    with pytest.raises(NetworkRefused, match=r"192\.0\.2\.1"):
        socket.create_connection(("192.0.2.1", 80))

    async def from_a_loop() -> None:
        await asyncio.open_connection("192.0.2.1", 80)

    with pytest.raises(NetworkRefused, match=r"192\.0\.2\.1"):
        asyncio.run(from_a_loop())
    flow_test.allow_network()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
        # Without sending anything.
        there.connect(("192.0.2.1", 80))


MODULE = """
import kitaru

@kitaru.flow
def ask() -> str:
    return kitaru.llm("Hm?", model="fast")

def test_it(flow_test):
    flow_test.script("fast", ["Yes."])
    assert flow_test.run(ask).result == "Yes."

def test_that_waits(flow_test):
    @kitaru.flow
    def wait() -> bool:
        return kitaru.wait(name="go")

    assert flow_test.run(wait).status == "waiting"
"""


def test_pytest_finds_the_fixture(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_ask=MODULE)
    pytester.makepyprojecttoml('[tool.kitaru]\nstore = "s3://not-there"\n')
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)
    assert {path.name for path in pytester.path.iterdir() if path.is_file()} == {
        "pyproject.toml",
        "test_ask.py",
    }


SCRIPT = """
import sys
import kitaru.pytest_plugin
assert "kitaru.testing" not in sys.modules

import kitaru
from kitaru.testing import FlowTest

@kitaru.flow
def wait() -> bool:
    return kitaru.wait(name="go")

with FlowTest() as flow_test:
    print(flow_test.run(wait).status)
"""


def test_a_process_with_a_waiting_flow_ends_quietly(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = forks.run([sys.executable, "script.py"], cwd=tmp_path, env=dict(os.environ), timeout=240)
    assert (done.stdout, done.stderr, done.returncode) == ("waiting\n", "", 0)
