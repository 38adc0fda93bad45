"""The command `kitaru serve` as a process: what it prints, and how it stops."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from kitaru.stores import open_store
from tests.waiting import wait_until

from .conftest import API, begin, good, httpx, problem

SECONDS = 120


@contextmanager
def command(folder: Path, *options: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("KITARU_")}
    line = [sys.executable, "-m", "kitaru", "serve", "--port", "0", *options]
    with subprocess.Popen(
        line, cwd=folder, env={**kept, **environment}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def url_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rpartition(" at ")[2].strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_service_after_its_requests(tmp_path: Path, number: int) -> None:
    store = open_store(f"sqlite:{tmp_path}/.kitaru/kitaru.db")
    begin(store, "review", "waits-1", "cats")
    with command(tmp_path) as process:
        url = url_of(process)
        answers: list[Any] = []

        def body() -> Iterator[bytes]:
            yield b'{"value":'
            process.send_signal(number)
            # New connections are refused once the service stops.
            wait_until(lambda: not is_listening(url))
            yield b" true}"

        def send() -> None:
            path = f"{url}{API}/executions/waits-1/waits/ok/answer"
            headers = {"content-type": "application/json"}
            answers.append(httpx.post(path, content=body(), headers=headers, timeout=SECONDS))

        sender = threading.Thread(target=send)
        sender.start()
        sender.join(SECONDS)
        assert good(answers[0])["status"] == "answered"
        _, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, err
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert [line["message"] for line in lines] == ["request", "stopped"]
    assert lines[0]["route"] == f"{API}/executions/{{exec_id}}/waits/{{name}}/answer"
    assert (lines[0]["method"], lines[0]["status"]) == ("POST", 200)


def is_listening(url: str) -> bool:
    try:
        httpx.get(f"{url}/healthz", timeout=SECONDS)
    except httpx.TransportError:
        return False
    return True


def test_json_is_one_document_and_logs_contain_no_secret(tmp_path: Path) -> None:
    secret = "tok-93a0fd3c62"
    with command(tmp_path, "--json", KITARU_TOKEN=secret) as process:
        assert process.stdout is not None
        text = ""
        while not text.endswith("}\n"):
            text += process.stdout.readline()
        document = json.loads(text)
        assert document["store"].endswith("/.kitaru/kitaru.db")
        url = document["url"]
        problem(httpx.get(url + f"{API}/executions"), 401, "TokenRequired")
        headers = {"authorization": f"Bearer {secret}"}
        path = f"{url}{API}/executions/{secret}?flow={secret}"
        problem(httpx.get(path, headers=headers), 404, "NotFound")
        process.terminate()
        _, err = process.communicate(timeout=SECONDS)
    assert secret not in err
    assert '"status": 401' in err


def test_addresses_that_cannot_be_used_are_errors(tmp_path: Path) -> None:
    with command(tmp_path, "--host", "0.0.0.0") as process:
        out, err = process.communicate(timeout=SECONDS)
        assert (process.returncode, out) == (2, "")
        assert "has no accounts" in err and "kitaru tokens create" in err
    with command(tmp_path) as process:
        port = url_of(process).rpartition(":")[2]
        with command(tmp_path, "--port", port) as second:
            _, err = second.communicate(timeout=SECONDS)
            assert second.returncode == 3
            assert "cannot listen on 127.0.0.1 port" in err


def test_the_demo_has_questions_that_continue_when_they_are_answered(tmp_path: Path) -> None:
    with command(tmp_path, "--demo", TMPDIR=str(tmp_path)) as process:
        assert process.stdout is not None
        [line] = islice((line for line in process.stdout if line.startswith("serving")), 1)
        api = f"{line.rpartition(' at ')[2].strip()}{API}"

        def asked() -> list[Any]:
            found: list[Any] = good(httpx.get(f"{api}/waits", timeout=SECONDS))["items"]
            return found

        wait_until(lambda: len(asked()) == 4)
        refund = next(one for one in asked() if one["flow"] == "refund")
        path = f"{api}/executions/{refund['exec_id']}"
        httpx.post(f"{path}/waits/{refund['name']}/answer", json={"value": True}, timeout=SECONDS)
        wait_until(lambda: good(httpx.get(path, timeout=SECONDS))["status"] == "completed")
        failed = httpx.get(f"{api}/executions?status=failed", timeout=SECONDS)
        assert "no invoice" in good(failed)["items"][0]["up"]["text"]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, err
    # Nothing stays on the disk.
    assert list(tmp_path.glob("kitaru-demo-*")) == []


def test_the_demo_has_a_store_of_its_own(tmp_path: Path) -> None:
    with command(tmp_path, "--demo", "--store", "sqlite:x.db") as process:
        _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 2 and "--demo serves a store of its own" in err
