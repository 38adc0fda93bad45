"""Clients of MCP servers in flows: what is recorded, questions, servers that die, kills."""

from __future__ import annotations

import asyncio
import difflib
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp")

from mcp import Client, MCPError, StdioServerParameters
from mcp.client.session import ClientRequestContext
from mcp_types import (
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequestFormParams,
    ElicitRequestParams,
    ElicitResult,
    ImageContent,
    SamplingMessage,
    TextContent,
    TextResourceContents,
)

import kitaru
from kitaru import checkpoint, errors, flow
from kitaru.adapters.mcp import KitaruMCPClient
from kitaru.client import KitaruClient
from tests.asynchronous.conftest import Runs, runs
from tests.differential.real import run_dry, run_here
from tests.waiting import wait_for_file, wait_until

from . import mcp_programs as programs
from .kills import check_each_step
from .mcp_programs import SERVER, stdio, text

__all__ = ["runs"]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a server that these tests share."""
    folder = tmp_path_factory.mktemp("server")
    command = [sys.executable, SERVER, str(folder / "log"), str(folder / "port")]
    server = subprocess.Popen(command)
    try:
        wait_for_file(folder / "port")
        yield f"http://127.0.0.1:{(folder / 'port').read_text()}/mcp"
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def shop(url: str) -> KitaruMCPClient:
    return KitaruMCPClient(Client(url), name="shop")


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def started(log: Path) -> list[int]:
    """Return the processes of the servers that have started."""
    lines = log.read_text().splitlines() if log.is_file() else []
    return [int(line.removeprefix("start-")) for line in lines if line.startswith("start-")]


# Results


def test_each_kind_of_request_is_recorded_once(runs: Runs, tmp_path: Path) -> None:
    log, fails = tmp_path / "log", threading.Event()
    shop = KitaruMCPClient(stdio(str(log)), name="shop")
    reported = []

    async def report(progress: float, total: float | None, message: str | None) -> None:
        reported.append((progress, total, message))

    @flow
    async def visits() -> list[Any]:
        async with shop:
            names = [tool.name for tool in (await shop.list_tools()).tools]
            prices = await asyncio.gather(
                *[shop.call_tool("price", {"item": "x" * n}) for n in range(3)]
            )
            details = await shop.call_tool("details", {"item": "kayak"})
            (image,) = (await shop.call_tool("picture")).content
            assert isinstance(image, ImageContent)
            broken = await shop.call_tool("broken")
            await shop.call_tool("slow", progress_callback=report)
            (hours,) = (await shop.read_resource("shop://hours")).contents
            assert isinstance(hours, TextResourceContents)
            greeting = (await shop.get_prompt("greet", {"name": "Al"})).messages[0].content
            assert isinstance(greeting, TextContent)
            listed = [
                len((await shop.list_resources()).resources),
                len((await shop.list_prompts()).prompts),
                len((await shop.list_resource_templates()).resource_templates),
            ]
        if not fails.is_set():
            fails.set()
            raise ValueError
        results = [*map(text, prices), details.structured_content, image.data, broken.is_error]
        return [names[:2], *results, hours.text, greeting.text, listed]

    with pytest.raises(errors.FlowError):
        visits.options(exec_id="e").run().wait()
    assert reported == [(1, 2, "part 1"), (2, 2, "part 2")]
    before = log.read_text()
    handle = visits.resume("e")
    assert handle.wait() == [
        ["price", "details"],
        *(f"{'x' * n} costs {n}" for n in range(3)),
        {"kayak": [1, None]},
        "AP8=",
        True,
        "9 to 5",
        "Greet Al.",
        [1, 1, 0],
    ]
    # A replay starts no server, and reports no progress.
    assert log.read_text() == before
    assert len(reported) == 2
    records = runs.records(handle)
    assert list(records) == [
        f"shop-{name}.call"
        for name in (
            *("tools", "price", "price_2", "price_3", "details", "picture", "broken", "slow"),
            *("resource", "prompt-greet", "resources", "prompts", "templates"),
        )
    ]
    assert records["shop-price.call"].kind == "tool"
    # The server has ended with the block.
    wait_until(lambda: not any(map(is_alive, started(log))))


def test_outside_of_flows_and_in_checkpoints_it_is_the_client(
    runs: Runs, shop: KitaruMCPClient
) -> None:
    async def ask() -> str:
        async with shop:
            return text(await shop.call_tool("price", {"item": "kayak"}))

    assert asyncio.run(ask()) == "kayak costs 5"
    inside = checkpoint(cache=False)(ask)

    @flow
    async def one() -> str:
        return await inside()

    handle = one.run()
    assert handle.wait() == "kayak costs 5"
    assert list(runs.records(handle)) == ["ask"]


def test_blocks_may_run_side_by_side_and_calls_need_one(runs: Runs, shop: KitaruMCPClient) -> None:
    async def price(item: str) -> str:
        async with shop, shop:
            return text(await shop.call_tool("price", {"item": item}))

    @flow
    async def several() -> list[str]:
        return list(await asyncio.gather(price("a"), price("ab")))

    handle = several.run()
    assert handle.wait() == ["a costs 1", "ab costs 2"]
    assert set(runs.records(handle)) == {"price.shop-price.call", "price_2.shop-price.call"}

    @flow
    async def without() -> None:
        await shop.call_tool("price", {"item": "a"})

    with pytest.raises(errors.FlowError, match="outside of its block"):
        without.run().wait()


# Errors


def test_errors_and_timeouts_are_recorded_as_such(runs: Runs, url: str) -> None:
    shop = KitaruMCPClient(Client(url), name="shop")
    tries = []

    @flow
    async def asks() -> list[Any]:
        async with shop:
            try:
                await shop.call_tool("slow", {"seconds": 60}, 0.2)
            except MCPError as error:
                tries.append(error.code)
                return [error.code, await kitaru.aio.wait(name="more", schema=int)]
        return []

    handle = asks.run()
    assert handle.settle(60) == "waiting"
    KitaruClient().executions.input(handle.exec_id, 1)
    assert handle.wait() == [-32001, 1]
    assert runs.records(handle)["shop-slow.call"].status == "failed"


def test_a_server_that_died_is_started_again_for_the_next_call(runs: Runs, tmp_path: Path) -> None:
    log = tmp_path / "log"
    shop = KitaruMCPClient(stdio(str(log)), name="shop")

    @flow
    async def asks() -> list[Any]:
        async with shop:
            try:
                await shop.call_tool("dies")
            except MCPError as error:
                return [str(error), text(await shop.call_tool("price", {"item": "kayak"}))]
        return []

    assert asks.run().wait() == ["Connection closed", "kayak costs 5"]
    assert len(started(log)) == 2


def test_a_server_that_does_not_start_is_an_error_with_its_cause(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This file is the source of the flow.
    monkeypatch.setenv("KITARU_SOURCE", "false")
    missing = StdioServerParameters(command=str(tmp_path / "missing"), args=["--token", "s3cret"])
    shop = KitaruMCPClient(Client(missing), name="shop")
    closed = KitaruMCPClient(Client("http://127.0.0.1:9/mcp"), name="closed")

    @flow
    async def asks(stdio: bool) -> None:
        client = shop if stdio else closed
        async with client:
            await client.list_tools()

    for over_stdio in (True, False):
        handle = asks.run(over_stdio)
        with pytest.raises(errors.CheckpointFailed) as failed:
            handle.wait()
        assert "s3cret" not in str(failed.value)
    assert b"s3cret" not in b"".join(path.read_bytes() for path in tmp_path.rglob("kitaru.db*"))


# Questions


def test_questions_of_a_server_are_waits_that_are_open_at_once(runs: Runs, tmp_path: Path) -> None:
    """The answers reach another server, which cannot read the state of the first one."""
    log = tmp_path / "log"
    script = tmp_path / "orders.py"
    script.write_text(f"""
import sys
sys.path.insert(0, {str(Path(SERVER).parents[2])!r})
from tests.adapters.test_mcp import orders
orders.options(exec_id="e").run({str(log)!r}).settle()
""")
    subprocess.run([sys.executable, str(script)], check=True)
    client = KitaruClient()
    waits = {one.name: one for one in client.executions.get("e").waits}
    assert {one.question for one in waits.values()} == {"Buy it?", "Which size?"}
    client.executions.input("e", {"size": 4}, wait="shop-buy.ask_2")
    with pytest.raises(errors.KitaruError):
        client.executions.input("e", {"sure": "perhaps"}, wait="shop-buy.ask")
    client.executions.input("e", {"sure": True}, wait="shop-buy.ask")
    handle = orders.resume("e")
    assert handle.wait(60) == "bought kayak True 4"
    assert len(started(log)) == 2
    ids = [f"shop-buy.{id}" for id in ("call", "ask", "ask_2", "call_2")]
    assert sorted(runs.records(handle)) == sorted(ids)


@flow
async def orders(log: str) -> str:
    async with KitaruMCPClient(stdio(log), name="shop") as shop:
        return text(await shop.call_tool("buy", {"item": "kayak"}))


def test_null_declines_a_question(runs: Runs, shop: KitaruMCPClient) -> None:
    @flow
    async def asks() -> str:
        async with shop:
            return text(await shop.call_tool("buy", {"item": "kayak"}))

    handle = asks.run()
    assert handle.settle(60) == "waiting"
    client = KitaruClient()
    client.executions.input(handle.exec_id, None, wait="shop-buy.ask")
    client.executions.input(handle.exec_id, {"size": 1}, wait="shop-buy.ask_2")
    assert "bought" not in handle.wait(60)


def test_callbacks_of_the_client_answer_instead(runs: Runs, url: str) -> None:
    async def elicit(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        assert isinstance(params, ElicitRequestFormParams)
        content: Any = {"sure": False} if "Buy" in params.message else {"size": 2}
        return ElicitResult(action="accept", content=content)

    async def sample(
        context: ClientRequestContext, params: CreateMessageRequestParams
    ) -> CreateMessageResult:
        assert isinstance(params.messages[0], SamplingMessage)
        said = TextContent(type="text", text="Float!")
        return CreateMessageResult(role="assistant", content=said, model="mine")

    client = Client(url, elicitation_callback=elicit, sampling_callback=sample)
    shop = KitaruMCPClient(client, name="shop")

    async def both() -> list[str]:
        async with shop:
            bought = await shop.call_tool("buy", {"item": "kayak"})
            return [text(bought), text(await shop.call_tool("advertise"))]

    handle = flow(both).run()
    assert handle.wait() == asyncio.run(both()) == ["bought kayak False 2", "Float!"]
    assert list(runs.records(handle)) == ["shop-buy.call", "shop-advertise.call"]


def test_what_cannot_be_answered_is_refused(runs: Runs, url: str) -> None:
    shop = KitaruMCPClient(Client(url), name="shop")
    legacy = KitaruMCPClient(lambda: Client(url, mode="legacy"), name="legacy")

    @flow
    async def samples() -> None:
        async with shop:
            await shop.call_tool("advertise")

    with pytest.raises(errors.CheckpointFailed, match="sampling"):
        samples.run().wait()

    @flow
    async def old() -> None:
        async with legacy:
            await legacy.call_tool("old")

    with pytest.raises(errors.CheckpointFailed, match="in the middle of a call"):
        old.run().wait()


# Kills


@pytest.mark.slow
@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_a_flow_killed_at_any_call_repeats_no_recorded_one(
    name: str, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_URL", url)
    # A server takes a second of CPU time to start.
    check_each_step(programs, name, tmp_path / "kills", most=2 if name == "over_stdio" else 5)


HOLDER = """
import asyncio, subprocess, sys
from kitaru.adapters.child_processes import bound_command

command = bound_command("sh", ["-c", "setsid sleep 600 & echo $! >&2; echo $$ >&2; wait"])
child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs the signal of Linux")
def test_a_child_and_its_children_die_with_a_killed_process(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", HOLDER], stderr=subprocess.PIPE, text=True)
    assert parent.stderr is not None
    pids = [int(parent.stderr.readline()) for _ in range(2)]
    assert all(map(is_alive, pids))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not any(map(is_alive, pids)))
    parent.stderr.close()


def test_a_bound_command_passes_input_output_and_exit_code() -> None:
    from kitaru.adapters.child_processes import bound_command

    command = bound_command("sh", ["-c", "read line; echo got $line; exit 7"])
    done = subprocess.run(command, input="x\n", capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("got x\n", 7)
    missing = subprocess.run(
        bound_command("/no/such", []), capture_output=True, text=True, check=False
    )
    assert (missing.returncode, missing.stderr) == (127, "/no/such: No such file or directory\n")


# With other adapters


def test_a_call_in_a_step_of_another_adapter_is_recorded_once(
    runs: Runs, shop: KitaruMCPClient
) -> None:
    from kitaru import harness

    @flow
    async def one() -> str:
        async def tool() -> str:
            async with shop:
                return text(await shop.call_tool("price", {"item": "kayak"}))

        return str(await harness.step("tool", tool, kind="tool"))

    handle = one.run()
    assert handle.wait() == "kayak costs 5"
    assert list(runs.records(handle)) == ["tool"]


# Compiled flows

SHOP = """
import asyncio
import difflib
from kitaru import checkpoint, flow
from kitaru.adapters.mcp import KitaruMCPClient
from mcp import Client
from mcp.server.mcpserver import MCPServer

server = MCPServer("shop", log_level="ERROR")

@server.tool()
async def price(item: str) -> str:
    return f"{item} costs {len(item)}"

shop = KitaruMCPClient(Client(server), name="shop")

@checkpoint
def store(text: str) -> str:
    return text.upper()

async def priced(item: str) -> str:
    async with shop:
        return (await shop.call_tool("price", {"item": item})).content[0].text

@flow
def main(item: str) -> str:
    first = store(asyncio.run(priced(item)))
    return store(asyncio.run(priced(first)))

@flow
async def amain(item: str) -> str:
    first = store(await priced(item))
    return store(await priced(first))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("target", "name"), [("airflow", "main"), ("vertex", "amain")])
def test_calls_run_between_the_steps_of_a_pipeline(target: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "desk.py"
    path.write_text(SHOP)
    (tmp_path / "requirements.txt").write_text(f"mcp=={version('mcp')}\n")
    local = run_here(path, name, {"item": "kayak"}, lambda _: True, tmp_path)
    assert (local.status, local.result) == ("completed", "KAYAK COSTS 5 COSTS 13")
    ids = {one[0] for one in local.invocations}
    assert ids == {"shop-price.call", "store", "shop-price_2.call", "store_2"}
    assert run_dry(path, name, {"item": "kayak"}, lambda _: True, tmp_path, target) == local


# The example


def test_the_example_differs_from_a_plain_client_in_a_few_lines(runs: Runs) -> None:
    folder = Path(SERVER).parents[2] / "examples" / "agents"
    plain, durable = (folder / name for name in ("shop_plain.py", "shop.py"))
    code = [one.read_text().split('"""', 2)[2].split("if __name__")[0] for one in (plain, durable)]
    lines = difflib.unified_diff(*(text.splitlines() for text in code), n=0)
    added = [line for line in lines if line[0] == "+" and line[1:].strip() and line[:3] != "+++"]
    assert len(added) <= 6, added

    handle = runpy.run_path(str(durable))["order"].run("kayak")
    assert handle.settle(60) == "waiting"
    (wait,) = KitaruClient().executions.get(handle.exec_id).waits
    assert (wait.name, wait.question) == ("shop-buy.ask", "Buy a kayak?")
    KitaruClient().executions.input(handle.exec_id, {"buy": True})
    assert handle.wait(60) == ["A kayak costs 900 USD.", "Bought a kayak."]
