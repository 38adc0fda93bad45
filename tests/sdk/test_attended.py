"""A script in `.wait()` continues its execution: an answer from elsewhere leaves that to it."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kitaru import KitaruClient
from kitaru.runtime.engine import questions
from kitaru.runtime.journal.processes import attending, is_attended
from kitaru.stores import open_store
from tests.waiting import stop, wait_until

SCRIPT = """
import os, sys
import kitaru
from kitaru import checkpoint, flow

@checkpoint
def pay(amount: int) -> int:
    with open("paid.txt", "a") as file:
        file.write(f"{os.getpid()}\\n")
    return amount

@flow
def paying(amount: int) -> int:
    kitaru.wait(name="ok", timeout=float(os.environ["POLL"]))
    return pay(amount)

if __name__ == "__main__":
    print(paying.run(3).wait(), flush=True)
"""


@pytest.fixture(params=["0", "60"])
def script(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[subprocess.Popen[str]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KITARU_STORE", f"sqlite:{tmp_path}/kitaru.db")
    monkeypatch.setenv("POLL", request.param)
    (tmp_path / "paying.py").write_text(SCRIPT)
    process = subprocess.Popen([sys.executable, "paying.py"], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def waiting() -> str:
    """Return the execution's id once its process waits for the answer."""
    store = open_store()

    def is_waiting() -> bool:
        found = KitaruClient().executions.list()
        return bool(
            found and found[0]["status"] == "waiting" and is_attended(store, found[0]["exec_id"])
        )

    wait_until(is_waiting)
    return str(KitaruClient().executions.list()[0]["exec_id"])


def answer(exec_id: str) -> dict[str, object]:
    command = ["executions", "input", exec_id, "--value", "true", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "kitaru", *command], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, object] = json.loads(done.stdout)
    return document


def test_the_script_alone_runs_what_follows(script: subprocess.Popen[str]) -> None:
    exec_id = waiting()
    document = answer(exec_id)
    assert (document["status"], document["result"]) == ("completed", 3)
    assert script.communicate(timeout=240)[0] == "3\n"
    assert Path("paid.txt").read_text() == f"{script.pid}\n"
    assert not is_attended(open_store(), exec_id)


def test_a_script_that_was_killed_is_replaced(script: subprocess.Popen[str]) -> None:
    exec_id = waiting()
    os.kill(script.pid, signal.SIGKILL)
    script.wait()
    assert answer(exec_id)["status"] == "completed"
    [paid] = Path("paid.txt").read_text().split()
    assert paid != str(script.pid)


def test_a_script_that_dies_after_the_answer_is_replaced(script: subprocess.Popen[str]) -> None:
    exec_id = waiting()
    stop(script.pid, Path("kitaru.db"))
    command = ["executions", "input", exec_id, "--value", "true", "--json"]
    answering = subprocess.Popen(
        [sys.executable, "-m", "kitaru", *command], stdout=subprocess.PIPE, text=True
    )
    view = KitaruClient().executions.get(exec_id)
    wait_until(lambda: view.journal.wait_answer("ok") is not None)
    os.kill(script.pid, signal.SIGKILL)
    script.wait()
    assert json.loads(answering.communicate(timeout=240)[0])["status"] == "completed"


def test_a_mark_ends_with_its_block(tmp_path: Path) -> None:
    store = open_store(f"sqlite:{tmp_path}/kitaru.db")
    with attending(store, "x"), attending(store, "x"):
        # Its own mark is no reason to leave the work to somebody else.
        assert not is_attended(store, "x")
    assert store.list("x/x/") == []


def test_a_line_is_noticed_with_any_number_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(4096, hard)), hard))
    reading, writing = os.pipe()
    try:
        # select() fails from 1,024 on.
        far = fcntl.fcntl(reading, fcntl.F_DUPFD, 1024)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(reading)
    with os.fdopen(far) as stdin, os.fdopen(writing, "w") as typed:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(questions, "_LOOK_SECONDS", 0)
        assert not questions._is_typed()
        typed.write("yes\n")
        typed.flush()
        assert questions._is_typed()
