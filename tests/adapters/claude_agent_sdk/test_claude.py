"""Claude in flows: records, approvals, sessions, kills. Only the model is scripted."""

from __future__ import annotations

import asyncio
import difflib
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import (
    ClaudeAgentOptions,
    create_sdk_mcp_server,
    fork_session_via_store,
    project_key_for_directory,
    tool,
)
from claude_agent_sdk.testing import run_session_store_conformance

from kitaru import aio, errors, flow, harness
from kitaru.adapters.claude_agent_sdk import KitaruClaudeRunner, KitaruSessionStore
from kitaru.client import KitaruClient
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store
from kitaru.wire import redaction
from tests.differential.real import run_dry, run_here
from tests.waiting import wait_for_file, wait_until

from . import claude_flows as flows

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Return the address of a scripted model, and its log."""
    folder = tmp_path_factory.mktemp("model")
    port, log = folder / "port", folder / "log"
    script = str(Path(__file__).with_name("model_server.py"))
    server = subprocess.Popen([sys.executable, script, str(port), str(log)])
    try:
        wait_for_file(port)
        yield f"http://127.0.0.1:{port.read_text()}", log
    finally:
        server.kill()
        server.wait()


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: tuple[str, Path]) -> str:
    """Give each test a store, and folders for the command line tool."""
    url = f"sqlite:{tmp_path / 'store' / 'kitaru.db'}"
    monkeypatch.setenv("KITARU_STORE", url)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLAUDE_FOLDER", str(tmp_path))
    monkeypatch.setenv("CLAUDE_MODEL", model[0])
    model[1].write_text("")
    return url


def script(*commands: str) -> str:
    """Return a prompt for commands that the model runs one after another."""
    return json.dumps({"calls": [["Bash", {"command": command}] for command in commands]})


def looks(*items: str) -> list[Any]:
    """Return calls of the tool `look`."""
    return [["mcp__shop__look", {"item": item}] for item in items]


def ids(store: str, exec_id: str) -> list[str]:
    return sorted(one.id for one in Journal.open(open_store(store), exec_id).invocations())


def bodies(store: str) -> bytes:
    """Return all that a store contains."""
    opened = open_store(store)
    return b"".join(filter(None, opened.get_all(opened.list(""))))


# Sessions


@pytest.mark.parametrize("kind", ["memory:", "sqlite:"])
def test_the_store_keeps_the_contracts_of_the_sdk(kind: str, tmp_path: Path) -> None:
    names = iter(range(1000))

    def make() -> KitaruSessionStore:
        name = f"store-{next(names)}"
        return KitaruSessionStore(f"{kind}{name if kind == 'memory:' else tmp_path / name}")

    asyncio.run(run_session_store_conformance(make))


def test_batches_of_two_processes_are_kept_once(store: str) -> None:
    key: Any = {"project_key": "p", "session_id": "s"}

    async def both() -> Any:
        one, two = KitaruSessionStore(store), KitaruSessionStore(store)
        entries: Any = [{"type": "user", "uuid": str(n)} for n in range(5)]
        await asyncio.gather(*[s.append(key, entries[:n]) for s in (one, two) for n in range(6)])
        return await one.load(key)

    assert sorted(entry["uuid"] for entry in asyncio.run(both())) == list("01234")


def test_a_transcript_contains_no_secret(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", redaction.Known())
    redaction.register_value("token", "s3cret-value-of-a-token")
    key: Any = {"project_key": "p", "session_id": "s"}
    entries: Any = [{"type": "user", "text": "it is s3cret-value-of-a-token"}]
    asyncio.run(KitaruSessionStore(store).append(key, entries))
    assert b"s3cret-value" not in bodies(store)


def test_options_with_a_session_are_refused() -> None:
    with pytest.raises(errors.UsageError, match="session_id"):
        KitaruClaudeRunner(ClaudeAgentOptions(session_id="s"))


# Runs


def test_a_turn_is_recorded_with_its_requests(store: str, model: tuple[str, Path]) -> None:
    live = []

    @flow
    async def asks(prompt: str) -> list[Any]:
        with harness.listen(live.append):
            result = await KitaruClaudeRunner(flows.options(), name="coder").run(prompt)
        return [result.result, result.total_cost_usd, await aio.wait(name="more", schema=int)]

    handle = asks.options(exec_id="e").run(script("echo one", "echo two"))
    assert handle.settle(60) == "waiting"
    seen = len(live)
    assert seen
    KitaruClient().executions.input("e", 1, wait="more")
    text, cost, _ = handle.wait(60)
    assert text == "done: one | two"
    assert ids(store, "e") == [
        *("coder.Bash-toolu_0", "coder.Bash-toolu_1", "coder.turn", "coder.turn_2"),
        *("coder.turn_3", "more"),
    ]
    calls = KitaruClient().executions.calls("e")
    assert [call["tokens"]["prompt"] for call in calls] == [100, 100, 100]
    assert sum(call["cost"] or 0 for call in calls) == pytest.approx(cost)
    assert [call.get("tool_calls", [{}])[0].get("id") for call in calls] == [
        "toolu_0", "toolu_1", None,
    ]  # fmt: skip
    assert flows.KEY.encode() not in bodies(store)
    assert model[1].read_text().count("request") == 3
    assert len(live) == seen


def test_each_tool_of_this_process_has_a_record(store: str) -> None:
    weigh, ask = ["mcp__shop__weigh", {"item": "a"}], ["mcp__shop__consult", {"item": "b"}]
    given = json.dumps({"calls": [looks("a", "broken"), [weigh, looks("c")[0]], ask]})
    handle = flows.shop.options(exec_id="e").run(given)
    assert handle.settle(60) == "waiting"
    KitaruClient().executions.input("e", "well", wait="coder.mcp__shop__consult-toolu_4.person")
    text = str(handle.wait(60))
    for part in ("saw a", "it is broken", "a is heavy", "saw c", "well"):
        assert part in text
    found = ids(store, "e")
    name = "coder.mcp__shop__"
    assert [one for one in found if not re.fullmatch(r"coder.turn(_\d)?", one)] == [
        *(f"{name}consult-toolu_4.person", f"{name}look-toolu_0", f"{name}look-toolu_1"),
        *(f"{name}look-toolu_3", f"{name}weigh-toolu_2.weigh"),
    ]
    assert "coder.turn_6" in found
    assert (Path(os.environ["CLAUDE_FOLDER"]) / "looked").read_text().split() == [
        "a", "broken", "c",
    ]  # fmt: skip


def test_an_unmarked_tool_with_durable_calls_is_refused(store: str) -> None:
    @tool("peek", "Peek.", {"item": str})
    async def peek(arguments: dict[str, Any]) -> dict[str, Any]:
        return await flows.weigh(arguments)

    @flow
    async def peeks(prompt: str) -> str | None:
        given = replace(flows.options(), allowed_tools=["mcp__shop__peek"])
        coder = KitaruClaudeRunner(given, name="coder", tools={"shop": [peek]})
        return (await coder.run(prompt)).result

    prompt = json.dumps({"calls": [["mcp__shop__peek", {"item": "a"}]]})
    with pytest.raises(errors.CheckpointFailed, match="mcp__shop__peek makes durable calls"):
        peeks.run(prompt).wait(60)


def test_a_tool_of_this_process_waits_for_a_person(store: str, tmp_path: Path) -> None:
    @flow
    async def asks(prompt: str) -> str | None:
        given = replace(flows.options(), allowed_tools=flows.ALLOWED)
        ask = ["mcp__shop__look"]
        coder = KitaruClaudeRunner(given, name="coder", ask=ask, tools=flows.TOOLS)
        return (await coder.run(prompt)).result

    handle = asks.options(exec_id="e").run(json.dumps({"calls": looks("a", "b")}))
    for item, answer in (("a", True), ("b", False)):
        assert handle.settle(60) == "waiting"
        (wait,) = KitaruClient().executions.get("e").waits
        assert wait.question == f"Run mcp__shop__look(item='{item}')?"
        KitaruClient().executions.input("e", answer, wait=wait.name)
    text = str(handle.wait(60))
    assert "saw a" in text
    assert "A person refused it." in text
    assert (tmp_path / "looked").read_text() == "a\n"


def test_options_with_tools_of_this_process_are_refused() -> None:
    served: Any = {"shop": create_sdk_mcp_server("shop", tools=flows.TOOLS["shop"])}
    with pytest.raises(errors.UsageError, match="SDK MCP server shop"):
        KitaruClaudeRunner(ClaudeAgentOptions(mcp_servers=served))


def test_outside_of_flows_it_is_query(store: str) -> None:
    coder = KitaruClaudeRunner(flows.options(), name="coder")
    assert asyncio.run(coder.run(script("echo one"))).result == "done: one"
    assert bodies(store) == b""


def test_nothing_runs_unasked_outside_of_a_flow() -> None:
    coder = KitaruClaudeRunner(flows.options(), name="coder", ask=["Bash"])
    with pytest.raises(errors.ContextError, match="nobody can be asked"):
        asyncio.run(coder.run(script("echo one")))


def test_a_model_that_does_not_answer_fails_the_turn(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_CODE_MAX_RETRIES", "0")
    handle = flows.free.options(exec_id="e").run("refuse")
    with pytest.raises(errors.CheckpointFailed, match="status 400"):
        handle.wait(60)
    # Nothing wrong is recorded: the turn runs again.
    records = Journal.open(open_store(store), "e").invocations()
    assert "completed" not in {one.status for one in records}


def test_a_run_continues_another_one_without_its_local_files(
    store: str, tmp_path: Path, model: tuple[str, Path]
) -> None:
    assert flows.plain.options(exec_id="e").run(script("echo one")).wait(60) == "done: one"
    assert ids(store, "e") == [
        "coder.Bash-toolu_0", "coder.turn", "coder.turn_2", "coder_2.turn",
    ]  # fmt: skip
    costs = [call["cost"] or 0 for call in KitaruClient().executions.calls("e")]
    # The price of a continued session contains that of the first one.
    assert costs == pytest.approx([0, 0.0012, 0.0006])

    first = flows.free.options(exec_id="f").run(script("echo two")).wait(60)
    shutil.rmtree(tmp_path / "config")

    @flow
    async def more(session: str) -> str | None:
        coder = KitaruClaudeRunner(flows.options(), name="coder")
        forked = await fork_session_via_store(
            KitaruSessionStore(), session, directory=str(tmp_path / "work")
        )
        result = await coder.run("More?", resume=forked.session_id)
        return result.result

    assert more.run(first[1]).wait(60) == "done: two"
    project = project_key_for_directory(tmp_path / "work")
    listed = asyncio.run(KitaruSessionStore(store).list_sessions(project))
    assert first[1] in {one["session_id"] for one in listed}


def test_tools_wait_for_a_person(store: str, tmp_path: Path, model: tuple[str, Path]) -> None:
    marks = tmp_path / "work" / "marks"
    handle = flows.asking.options(exec_id="e").run(script("echo 1 >> marks", "echo 2 >> marks"))
    client = KitaruClient()
    for number, answer in enumerate((True, False)):
        assert handle.settle(60) == "waiting"
        (wait,) = client.executions.get("e").waits
        assert wait.name == f"coder.approve-Bash-toolu_{number}"
        assert wait.question == f"Run Bash(command='echo {number + 1} >> marks')?"
        assert marks.exists() == (number > 0)
        client.executions.input("e", answer, wait=wait.name)
    assert "A person refused it." in str(handle.wait(60))
    assert marks.read_text() == "1\n"
    # An answer costs no further request.
    assert model[1].read_text().split("\n") == ["request 0", "request 1", "request 2", ""]


def test_a_turn_that_died_after_it_deferred_a_tool_asks_again(
    store: str, tmp_path: Path, model: tuple[str, Path]
) -> None:
    from kitaru.adapters.claude_agent_sdk.sessions import Attempts

    prompt = script("echo 1 >> marks")
    handle = flows.asking.options(exec_id="e").run(prompt)
    assert handle.settle(60) == "waiting"
    opened = open_store(store)
    for session in Attempts(opened, "e", "coder.turn").read():
        Attempts(opened, "died", "coder.turn").begin(0, session)
    handle = flows.asking.options(exec_id="died").run(prompt)
    assert handle.settle(60) == "waiting"
    (wait,) = KitaruClient().executions.get("died").waits
    assert wait.name == "coder.approve-Bash-toolu_0"
    assert not (tmp_path / "work" / "marks").exists()
    KitaruClient().executions.input("died", True)
    handle.wait(60)
    assert (tmp_path / "work" / "marks").read_text() == "1\n"


def test_a_hook_that_fails_blocks_the_tool(tmp_path: Path) -> None:
    from kitaru.adapters.claude_agent_sdk import process

    for given in ("", "{}", "[]"):
        command = [sys.executable, "-I", "-S", process._HOOK, str(tmp_path / "missing")]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")


# Kills


@pytest.mark.skipif(sys.platform != "linux", reason="needs the signal of Linux")
def test_a_killed_turn_continues_its_transcript(
    store: str, tmp_path: Path, model: tuple[str, Path]
) -> None:
    marks = tmp_path / "work" / "marks"
    prompt = script("echo 1 >> marks", "echo 2 >> marks; [ -e go ] || sleep 60; echo 3 >> marks")
    command = [
        sys.executable,
        "-m",
        "tests.adapters.claude_agent_sdk.claude_flows",
        "free",
        "e",
        prompt,
    ]
    process = subprocess.Popen(command, cwd=ROOT)
    wait_until(lambda: marks.exists() and "2" in marks.read_text())
    children = _tools(tmp_path)
    assert children
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    # Neither the tool nor its command has effects any more.
    wait_until(lambda: not _tools(tmp_path))
    requests = model[1].read_text()
    (marks.parent / "go").touch()
    subprocess.run(command, cwd=ROOT, check=True)
    assert model[1].read_text() != requests
    # The first command has a result in the transcript. The second one had begun.
    assert marks.read_text().startswith("1\n2\n")
    assert marks.read_text().count("1") == 1
    # The transcript may already contain the second call, which the model then makes again.
    assert [one.removesuffix("_again") for one in ids(store, "e")] == [
        *("coder.Bash-toolu_0", "coder.Bash-toolu_1", "coder.turn", "coder.turn_2"),
        "coder.turn_3",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="needs the signal of Linux")
def test_a_recorded_tool_does_not_run_again_after_a_kill(
    store: str, tmp_path: Path, model: tuple[str, Path]
) -> None:
    """One of two parallel tools is recorded when the process dies, the other one runs."""
    looked = tmp_path / "looked"
    prompt = json.dumps({"calls": [looks("first", "slow"), looks("last")]})
    command = [
        *(sys.executable, "-m", "tests.adapters.claude_agent_sdk.claude_flows"),
        *("shop", "e", prompt),
    ]
    process = subprocess.Popen(command, cwd=ROOT)
    first = "coder.mcp__shop__look-toolu_0"
    wait_until(lambda: looked.exists() and "slow" in looked.read_text())
    wait_until(lambda: first in ids(store, "e"))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not _tools(tmp_path))
    (tmp_path / "go").touch()
    subprocess.run(command, cwd=ROOT, check=True)
    assert looked.read_text().split() == ["first", "slow", "slow", "last"]
    again = ids(store, "e")
    undisturbed = flows.shop.options(exec_id="u").run(prompt)
    undisturbed.wait(60)
    assert again == ids(store, "u")
    result = KitaruClient().executions.get("e").result
    assert "saw last" in str(result)
    tool = next(r for r in Journal.open(open_store(store), "e").invocations() if r.id == first)
    assert tool.kind == "tool"


def _tools(folder: Path) -> list[int]:
    """Return the living processes that work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == folder / "work":
                found.append(int(process.name))
        except OSError:
            continue
    return found


# Compiled flows

DESK = """
import asyncio
import os
from claude_agent_sdk import ClaudeAgentOptions
from kitaru import checkpoint, flow
from kitaru.adapters.claude_agent_sdk import KitaruClaudeRunner

def coder():
    options = ClaudeAgentOptions(model="claude-sonnet-4-5", setting_sources=[])
    return KitaruClaudeRunner(options, name="coder", ask=["Bash"])

@checkpoint
def store(text: str) -> str:
    return text.strip()

@flow
def main(prompt: str) -> str:
    first = asyncio.run(coder().run(store(prompt))).result
    return store(first)
"""


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: tuple[str, Path]) -> None:
    """Let the command line tool find the scripted model without options."""
    for name, value in (flows.options().env).items():
        monkeypatch.setenv(name, value)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["airflow", "vertex"])
def test_turns_run_between_the_steps_of_a_pipeline(
    target: str, tmp_path: Path, environ: None
) -> None:
    path = tmp_path / "desk.py"
    path.write_text(DESK)
    required = f"claude-agent-sdk=={version('claude-agent-sdk')}\n"
    (tmp_path / "requirements.txt").write_text(required)
    given = {"prompt": script("echo one")}
    local = run_here(path, "main", given, lambda _: True, tmp_path)
    assert (local.status, local.result) == ("completed", "done: one")
    assert {one[0] for one in local.invocations} == {
        "store", "coder.turn", "coder.approve-Bash-toolu_0", "coder.turn_2",
        "coder.Bash-toolu_0", "coder.turn_3", "store_2",
    }  # fmt: skip
    dry = run_dry(path, "main", given, lambda _: True, tmp_path, target)
    assert (dry.status, dry.result) == (local.status, local.result)
    assert {one[0] for one in dry.invocations} == {one[0] for one in local.invocations}


# The page and the example


def test_the_code_of_the_page_runs() -> None:
    page = (ROOT / "docs" / "how-to" / "claude-agent-sdk.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    found: dict[str, Any] = {}
    exec(block, found)
    assert isinstance(found["options"].session_store, KitaruSessionStore)


def test_the_example_differs_from_a_plain_agent_in_a_few_lines(store: str, environ: None) -> None:
    folder = ROOT / "examples" / "agents"
    texts = [(folder / name).read_text() for name in ("coder_plain.py", "coder.py")]
    code = [text.split('"""', 2)[2].split("if __name__")[0].splitlines() for text in texts]
    lines = difflib.unified_diff(code[0], code[1], n=0)
    added = [line for line in lines if line[0] == "+" and line[1:].strip() and line[:3] != "+++"]
    assert len(added) <= 7, added

    handle = runpy.run_path(str(folder / "coder.py"))["solve"].run(script("echo one"))
    assert handle.settle(60) == "waiting"
    KitaruClient().executions.input(handle.exec_id, True)
    assert handle.wait(60) == "done: one"
