"""A whole flow, and its dry run, with the journal in a bucket: wait, memory, fan-out."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store
from kitaru.wire import keys

from .servers.proxy import Proxy

FLOW = """
import kitaru
from kitaru import checkpoint, flow

@checkpoint
def double(n: int) -> int:
    return 2 * n

@checkpoint
def publish(total: int, runs: int) -> str:
    return f"{total} in run {runs}"

@flow
def report(count: int) -> str:
    runs = (kitaru.memory.get("runs") or 0) + 1
    kitaru.memory.set("runs", runs)
    futures = [double.submit(n) for n in range(count)]
    total = sum([future.result() for future in futures])
    if not kitaru.wait(name="ok", schema=bool):
        return "rejected"
    return publish(total, runs)
"""

# The command, which does not wait between its tries.
HASTY = """
from runpy import run_module
from kitaru.stores import object_store
object_store._PAUSE_SECONDS = 0
run_module("kitaru", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def proxy(behind: Callable[[str], Proxy]) -> Proxy:
    return behind("moto")


@pytest.fixture
def cli(tmp_path: Path, proxy: Proxy) -> Callable[..., Any]:
    """Return the real command, in a process of its own, with its journal in a bucket."""
    (tmp_path / "flows.py").write_text(FLOW)

    def run(*arguments: str, store: str, code: int = 0, hasty: bool = False) -> Any:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("KITARU_")}
        kept["XDG_CONFIG_HOME"] = str(tmp_path)
        start = ["-c", HASTY] if hasty else ["-m", "kitaru"]
        command = [sys.executable, *start, *arguments, "--store", store, "--json"]
        done = subprocess.run(command, cwd=tmp_path, env=kept, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout or done.stderr.splitlines()[-1])

    return run


@pytest.fixture
def url(proxy: Proxy) -> str:
    return f"{proxy.url}/{secrets.token_hex(4)}"


def outcomes(url: str, exec_id: str) -> list[tuple[str, str]]:
    store = open_store(url)
    try:
        return [(one.id, one.status) for one in Journal.open(store, exec_id).invocations()]
    finally:
        store.close()


def test_the_run_and_the_dry_run_record_the_same(cli: Callable[..., Any], url: str) -> None:
    asked = cli("run", "flows.py:report", "--input", "count=3", "--no-input", store=url)
    assert asked["status"] == "waiting"
    answer = ["executions", "input", asked["exec_id"], "--wait", "ok", "--value", "true"]
    assert cli(*answer, store=url)["result"] == "6 in run 1"
    command = ["dry-run", "flows.py:report", "--target", "kubeflow", "--input", "count=3"]
    dry = cli(*command, "--answer", "ok=true", store=f"{url}/dry")
    assert dry["result"] == "6 in run 1"
    assert outcomes(url, asked["exec_id"]) == outcomes(f"{url}/dry", dry["exec_id"])


counting = threading.Event()


@kitaru.checkpoint
def successor(n: int) -> int:
    counting.set()
    return n + 1


@kitaru.checkpoint
def same(n: int) -> int:
    return n


@kitaru.flow
def chain(count: int) -> int:
    n = 0
    for _ in range(count):
        n = same(successor(n))
    counting.clear()
    return n


def test_a_checkpoint_is_one_round_trip(
    url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record, the cache's hint and the two questions for the next one are under way at once."""
    # The event says when to count; no result depends on it.
    monkeypatch.setenv("KITARU_STATELESS", '["threading.Event"]')
    together, met = threading.Barrier(4, timeout=240), list[str]()

    def meet(method: str, key: str) -> str:
        if counting.is_set():
            together.wait()
            met.append(method)
        return ""

    proxy.fault = meet
    # Not through the command, which polls the execution.
    assert chain.options(store=url).run(10).wait() == 10
    assert sorted(met) == ["GET"] * 40 + ["PUT"] * 40


def test_an_execution_goes_on_in_few_round_trips(url: str, proxy: Proxy) -> None:
    handle = chain.options(store=url).run(20)
    handle.wait()
    store = open_store(url)
    store.delete(keys.end(handle.exec_id))
    proxy.requests.clear()
    assert chain.resume(handle.exec_id, store=store).wait() == 20
    store.close()
    keys_asked = [key for _, key in proxy.requests]
    assert not [key for key in keys_asked if "/inv/" in key]
    # Once to continue, and once for the summary of its end: the effort of all its processes.
    assert len([key for key in keys_asked if "/segment/" in key]) == 2
    assert len(keys_asked) <= 28


def test_a_script_may_end_while_its_flow_goes_on(tmp_path: Path, url: str, proxy: Proxy) -> None:
    script = FLOW + "report.options(exec_id='left').run(2)\n"
    environment = {**os.environ, "KITARU_STORE": url}
    command = [sys.executable, "-c", script]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=240)
    ids = [id for id, _ in outcomes(url, "left")]
    assert ids == ["memory_get", "memory_set", "double", "double_2"]


def test_a_run_ends_with_3_when_the_store_stays_busy_and_goes_on_later(
    cli: Callable[..., Any], url: str, proxy: Proxy
) -> None:
    asked = cli("run", "flows.py:report", "--input", "count=2", "--no-input", store=url)
    answer = ["executions", "input", asked["exec_id"], "--wait", "ok", "--value", "true"]
    proxy.fault = lambda method, key: "503" if key.endswith("/inv/publish") else ""
    error = cli(*answer, store=url, code=3, hasty=True)["error"]
    assert (error["type"], error["exit_code"]) == ("StoreUnavailable", 3)
    assert "too busy" in error["message"] and "executions resume" in error["help"]
    proxy.fault = lambda method, key: ""
    assert cli("executions", "resume", asked["exec_id"], store=url)["result"] == "2 in run 1"


def test_store_check_accepts_a_bucket(cli: Callable[..., Any], url: str) -> None:
    assert cli("store", "check", store=url)["ok"]


def test_store_check_refuses_a_server_that_overwrites(
    cli: Callable[..., Any], behind: Callable[[str], Proxy]
) -> None:
    proxy = behind("s3rver")
    error = cli("store", "check", store=f"{proxy.url}/p", code=3)
    assert "ignores conditional writes" in error["error"]["message"]


@pytest.mark.parametrize(
    ("method", "listing"), [("PUT", False), ("GET", False), ("GET", True), ("POST", True)]
)
def test_store_check_refuses_what_is_denied(
    cli: Callable[..., Any], url: str, proxy: Proxy, method: str, listing: bool
) -> None:
    # A list and S3's bulk delete name no key in their path.
    proxy.fault = lambda seen, key: "403" if seen == method and listing == (not key) else ""
    error = cli("store", "check", store=url, code=3)
    assert "credentials" in error["error"]["help"]
