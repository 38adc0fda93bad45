"""A whole flow, and its dry run, with the journal in a bucket: wait, memory, fan-out."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru.runtime.journal import Journal
from kitaru.stores import open_store

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


@pytest.fixture
def proxy(behind: Callable[[str], Proxy]) -> Proxy:
    return behind("moto")


@pytest.fixture
def cli(tmp_path: Path, proxy: Proxy) -> Callable[..., Any]:
    """Return the real command, in a process of its own, with its journal in a bucket."""
    (tmp_path / "flows.py").write_text(FLOW)

    def run(*arguments: str, store: str, code: int = 0) -> Any:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("KITARU_")}
        kept["XDG_CONFIG_HOME"] = str(tmp_path)
        command = [sys.executable, "-m", "kitaru.cli", *arguments, "--store", store, "--json"]
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


@kitaru.checkpoint
def successor(n: int) -> int:
    return n + 1


@kitaru.flow
def chain(count: int) -> int:
    n = 0
    for _ in range(count):
        n = successor(n)
    return n


def test_a_checkpoint_is_three_reads_and_two_writes(url: str, proxy: Proxy) -> None:
    # Not through the command, which looks at the execution as often as time passes.
    def asked(count: int) -> dict[str, int]:
        proxy.requests.clear()
        assert chain.options(store=f"{url}/{count}").run(count).wait() == count
        methods = [method for method, _ in proxy.requests]
        return {method: methods.count(method) for method in methods}

    few, many = asked(2), asked(12)
    each = {method: (many[method] - few[method]) / 10 for method in many}
    assert each == {"GET": 3, "PUT": 2}


def test_store_check_accepts_a_bucket(cli: Callable[..., Any], url: str) -> None:
    assert cli("store", "check", store=url)["ok"]


def test_store_check_refuses_a_server_that_overwrites(
    cli: Callable[..., Any], behind: Callable[[str], Proxy]
) -> None:
    proxy = behind("s3rver")
    error = cli("store", "check", store=f"{proxy.url}/p", code=3)
    assert "overwrite" in error["error"]["message"]


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
