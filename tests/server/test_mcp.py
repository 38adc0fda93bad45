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
        assert "check_flow" not in tools

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


def test_stdio_reads_files_and_writes_nothing_with_read_only(store: Store, tmp_path: Path) -> None:
    begin(store, "review", "e4", "tea")
    flow = tmp_path / "flow.py"
    flow.write_text("from kitaru import flow\n\n@flow\ndef f() -> int:\n    yield 1\n")

    async def use(session: Any) -> None:
        names = {one.name for one in (await session.list_tools()).tools}
        assert "answer_wait" not in names and "cancel_execution" not in names
        found = await ask(session, "check_flow", flow=str(flow))
        assert found["is_fatal"] and found["diagnostics"][0]["code"] == "KIT106"
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
