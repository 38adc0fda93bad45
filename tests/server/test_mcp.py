"""The tools for agents, with the official client over stdio and HTTP."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from kitaru.client import KitaruClient
from kitaru.errors import EnvironmentFailure
from kitaru.server import analysis, documentation
from kitaru.stores.base import Store

from .conftest import Running, begin, serving

Use = Callable[[Any], Awaitable[None]]


def over_http(service: Running, use: Use) -> None:
    async def run() -> None:
        async with Client(service.url.rstrip("/") + "/mcp") as session:
            await use(session)

    anyio.run(run)


def over_stdio(store: Store, use: Use, *options: str) -> None:
    command = [sys.executable, "-m", "kitaru", "mcp", "--store", store.url, *options]
    server = StdioServerParameters(command=command[0], args=command[1:])

    async def run() -> None:
        async with Client(stdio_client(server)) as session:
            await use(session)

    anyio.run(run)


async def ask(session: Any, tool: str, **arguments: Any) -> Any:
    """Return the document of a tool; fail if it is an error."""
    result = await session.call_tool(tool, arguments)
    text = result.content[0].text
    assert not result.is_error, text
    return json.loads(text)


async def refused(session: Any, tool: str, **arguments: Any) -> str:
    result = await session.call_tool(tool, arguments)
    assert result.is_error
    return str(result.content[0].text)


def test_an_agent_finds_and_answers_a_question(service: Running) -> None:
    begin(service.store, "review", "e1", "tea")

    async def use(session: Any) -> None:
        [wait] = (await ask(session, "list_waits"))["items"]
        assert (wait["exec_id"], wait["name"], wait["schema"]) == ("e1", "ok", {"type": "boolean"})
        error = await refused(session, "answer_wait", exec_id="e1", wait="ok", value="maybe")
        assert "AnswerInvalid" in error
        await ask(session, "answer_wait", exec_id="e1", wait="ok", value=True)
        found = await ask(session, "get_execution", exec_id="e1")
        assert (found["status"], found["inputs"]) == ("answered", {"topic": "tea"})

    over_http(service, use)
    [given] = KitaruClient(service.store).executions.get("e1").answers
    assert (given.value, given.by) == (True, "http")


def test_tools_say_what_they_change(service: Running) -> None:
    async def use(session: Any) -> None:
        tools = {one.name: one.annotations for one in (await session.list_tools()).tools}
        assert tools["get_execution"].read_only_hint
        assert not tools["answer_wait"].read_only_hint
        assert not tools["answer_wait"].destructive_hint
        assert tools["cancel_execution"].destructive_hint
        # Files of the service's machine are not for its clients.
        assert not {"check_flow", "compile_flow", "explain_flow"} & tools.keys()
        assert tools["compile_source"].read_only_hint

    over_http(service, use)


def test_many_executions_need_the_confirmation_of_a_preview(service: Running) -> None:
    begin(service.store, "review", "e5", "tea")

    async def use(session: Any) -> None:
        tools = {one.name: one.annotations for one in (await session.list_tools()).tools}
        assert tools["cancel_executions"].destructive_hint
        assert not tools["retry_executions"].read_only_hint
        where = {"where": ["flow=review"]}
        preview = await ask(session, "cancel_executions", **where)
        assert (preview["count"], preview["done"]) == (1, [])
        error = await refused(session, "cancel_executions", **where, confirm="1-0")
        assert "StateError" in error
        assert (await ask(session, "get_execution", exec_id="e5"))["status"] == "waiting"
        done = await ask(session, "cancel_executions", **where, confirm=preview["confirm"])
        assert done["done"][0]["status"] == "cancelled"
        replayed = await ask(session, "replay_executions", where=["flow=plain"])
        assert replayed["items"] == []
        await refused(session, "retry_executions", where=[])

    over_http(service, use)


def test_errors_name_the_next_step(service: Running) -> None:
    async def use(session: Any) -> None:
        error = await refused(session, "get_execution", exec_id="no-such-one")
        assert "NotFound" in error and "no-such-one" in error

    over_http(service, use)


def test_a_large_result_is_cut_and_says_so(service: Running) -> None:
    begin(service.store, "large", "e2")

    async def use(session: Any) -> None:
        result = await session.call_tool("get_artifact", {"exec_id": "e2", "name": "many"})
        text = result.content[0].text
        assert len(text) <= 40_000
        assert json.loads(text)["is_complete"] is False

    over_http(service, use)


def test_resources_are_executions(service: Running) -> None:
    begin(service.store, "plain", "e3", "tea")

    async def use(session: Any) -> None:
        found = await session.read_resource("kitaru://executions/e3")
        assert json.loads(found.contents[0].text)["status"] == "completed"
        log = await session.read_resource("kitaru://executions/e3/log")
        assert "working on tea" in log.contents[0].text

    over_http(service, use)


def test_http_needs_the_token(store: Store) -> None:
    async def run(url: str, token: str) -> Any:
        headers = {"authorization": f"Bearer {token}"}
        async with (
            httpx2.AsyncClient(headers=headers) as http,
            Client(streamable_http_client(url, http_client=http)) as session,
        ):
            return await session.list_tools()

    with serving(store, token="a-token-of-some-length") as running:
        url = running.url.rstrip("/") + "/mcp"
        assert len(anyio.run(run, url, "a-token-of-some-length").tools) > 20
        with pytest.raises(BaseException) as raised:
            anyio.run(run, url, "another")
        assert raised.value is not None


SOURCE = """from kitaru import checkpoint, flow

@checkpoint
def draft(topic: str) -> str:
    return topic

@flow
def review(topic: str) -> str:
    return draft(topic)

raise SystemExit("the source is imported")
"""


async def use_the_compiler(session: Any, tools: str, name: str, subject: str) -> None:
    """Check, explain and compile `SOURCE`, as a file or as a text."""
    given = {name: subject}
    assert (await ask(session, f"check_{tools}", **given)) == {"is_fatal": False, "diagnostics": []}
    explained = await ask(session, f"explain_{tools}", **given, target="vertex", limit=1)
    [part] = explained["parts"]
    assert (part["kind"], part["name"], explained["next_skip"]) == ("cut", "draft", None)
    compiled = await ask(session, f"compile_{tools}", **given, target="vertex")
    assert compiled["steps"] == ["draft"] and compiled["file"] == "pipeline.yaml"
    assert "deploymentSpec" in compiled["text"]
    assert "bundle.zip" not in compiled["files"] and "directory" not in compiled


async def read_the_documentation(session: Any) -> None:
    found = (await ask(session, "search_docs", query="what is in the key of the cache?"))["items"]
    assert found[0]["page"] == "how-to/cache" and "key" in found[0]["excerpt"]
    assert (await ask(session, "search_docs", query='"page") OR NEAR(* :'))["items"]
    assert (await ask(session, "search_docs", query="…"))["items"] == []
    rules, page = documentation.read("reference/rules"), ""
    for _ in range(len(rules)):
        part = await ask(session, "read_docs", page="reference/rules", skip=len(page))
        page += part["text"]
        if part["next_skip"] is None:
            break
        assert part["next_skip"] == len(page)
    assert page == rules and len(page) > 40_000
    assert "NotFound" in await refused(session, "read_docs", page="../../README")
    listed = {str(one.uri): one for one in (await session.list_resources()).resources}
    assert listed["kitaru://docs/how-to/replay"].title == "Resume, retry and replay"
    text = (await session.read_resource("kitaru://docs/how-to/replay")).contents[0].text
    assert text == documentation.read("how-to/replay")
    long = (await session.read_resource("kitaru://docs/reference/rules")).contents[0].text
    assert len(long) < 20_000 and "read_docs('reference/rules', skip=16000)" in long


def test_an_agent_reads_the_documentation_and_compiles_a_source(
    service: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The compiler of a client's source sees neither the settings nor the folder of the service.
    (tmp_path / "pyproject.toml").write_text("[tool.kitaru]\nimage = 5\n")
    (tmp_path / "kitaru.py").write_text("raise SystemExit('a module of the folder is imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KITARU_IMAGE", "secret/image:1")

    async def use(session: Any) -> None:
        await read_the_documentation(session)
        await use_the_compiler(session, "source", "source", SOURCE)
        given = {"source": SOURCE, "target": "vertex"}
        plan = await ask(session, "compile_source", **given, file="plan.json", skip=10)
        assert len(plan["text"]) == plan["files"]["plan.json"] - 10
        assert "secret/image" not in plan["text"]
        error = await refused(session, "compile_source", **given, file="../../pyproject.toml")
        assert "NotFound" in error
        await refused(session, "compile_source", source=SOURCE, target="--help")
        found = await ask(session, "check_source", source="def (:\n")
        assert found["is_fatal"] and found["diagnostics"][0]["code"] == "KIT101"
        error = await refused(session, "explain_source", source="x = 1\n", target="vertex")
        assert "KIT103" in error and "flow.py:1:1" in error
        assert await refused(session, "check_source", source="#" * 200_001)

    over_http(service, use)


def test_a_source_that_needs_too_much_ends_its_process_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(analysis, "_LIMITED", "import os; os.abort()")
    with analysis.of_source(SOURCE) as subject:
        with pytest.raises(EnvironmentFailure, match="cannot be analysed"):
            subject.check()
        monkeypatch.setattr(analysis, "_LIMITED", "import time; time.sleep(600)")
        monkeypatch.setattr(analysis, "_SECONDS", 0.1)
        with pytest.raises(EnvironmentFailure, match="cannot be analysed"):
            subject.check()


def test_stdio_reads_files_and_writes_nothing_with_read_only(store: Store, tmp_path: Path) -> None:
    begin(store, "review", "e4", "tea")
    flow = tmp_path / "flow.py"
    flow.write_text("from kitaru import flow\n\n@flow\ndef f() -> int:\n    yield 1\n")

    async def use(session: Any) -> None:
        names = {one.name for one in (await session.list_tools()).tools}
        assert "answer_wait" not in names and "cancel_execution" not in names
        found = await ask(session, "check_flow", flow=str(flow))
        assert found["is_fatal"] and found["diagnostics"][0]["code"] == "KIT106"
        (tmp_path / "review.py").write_text(SOURCE)
        await use_the_compiler(session, "flow", "flow", str(tmp_path / "review.py"))
        await refused(session, "check_flow", flow="--help")
        await read_the_documentation(session)
        rule = await ask(session, "explain_rule", code="KIT106")
        assert "KIT106" in rule["text"]
        assert (await ask(session, "list_executions"))["items"][0]["exec_id"] == "e4"

    over_stdio(store, use, "--read-only")


def test_stdio_records_who_answered(store: Store) -> None:
    begin(store, "review", "e5", "tea")

    async def use(session: Any) -> None:
        await ask(session, "answer_wait", exec_id="e5", wait="ok", value=False)

    over_stdio(store, use)
    [given] = KitaruClient(store).executions.get("e5").answers
    assert (given.value, given.by) == (False, "mcp")
