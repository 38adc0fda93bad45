"""A reader that closes its end of a pipe, such as `head`, changes nothing about an execution."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

from .conftest import Kitaru

CHATTY = """
import sys
from kitaru import checkpoint, flow

@checkpoint
def talk(n: int) -> int:
    for line in range(300):
        print("said", n, line, flush=line % 2 == 0)
        sys.stderr.write("warned\\n")
    return n

@flow
def chatty(fail: bool = False) -> int:
    print("in the body", flush=True)
    found = talk(1) + talk(2)
    if fail:
        raise ValueError(found)
    return found

if __name__ == "__main__":
    print(chatty.run().wait())
"""


def unread(kitaru: Kitaru, command: list[str], *streams: str) -> int:
    """Run a command whose `streams` nobody reads; return its exit code."""
    reading, writing = os.pipe()
    os.close(reading)
    chosen = {name: writing if name in streams else subprocess.DEVNULL for name in STREAMS}
    ran = subprocess.run(
        command, cwd=kitaru.folder, env=kitaru.environ, timeout=240, check=False,
        stdout=chosen["stdout"], stderr=chosen["stderr"],
    )  # fmt: skip
    os.close(writing)
    return ran.returncode


STREAMS = ("stdout", "stderr")


@pytest.mark.parametrize("streams", [("stdout",), ("stderr",), STREAMS])
def test_a_run_that_nobody_reads_completes(streams: tuple[str, ...], kitaru: Kitaru) -> None:
    kitaru.write("chatty.py", CHATTY)
    assert unread(kitaru, kitaru.command(["run", "chatty.py"]), *streams) == 0
    assert kitaru("executions", "get", "latest", "--json").document["status"] == "completed"
    logged = kitaru("executions", "logs", "latest").out
    assert logged.count("said") == logged.count("warned") == 600


@pytest.mark.parametrize("streams", [("stdout",), STREAMS])
def test_a_run_whose_output_is_not_kept_completes(streams: tuple[str, ...], kitaru: Kitaru) -> None:
    kitaru.write("pyproject.toml", "[tool.kitaru]\nlogs = false\n")
    kitaru.write("chatty.py", CHATTY)
    assert unread(kitaru, kitaru.command(["run", "chatty.py"]), *streams) == 0
    assert kitaru("executions", "get", "latest", "--json").document["status"] == "completed"
    assert "said" not in kitaru("executions", "logs", "latest").out


def test_a_failure_that_nobody_reads_is_still_one(kitaru: Kitaru) -> None:
    kitaru.write("chatty.py", CHATTY)
    failing = kitaru.command(["run", "chatty.py", "-i", "fail=true"])
    assert unread(kitaru, failing, *STREAMS) == 1
    assert kitaru("executions", "get", "latest", "--json", code=None).document["error"]["type"]


def test_a_script_that_nobody_reads_completes(kitaru: Kitaru) -> None:
    kitaru.write("chatty.py", CHATTY)
    unread(kitaru, [sys.executable, "chatty.py"], *STREAMS)
    assert kitaru("executions", "get", "latest", "--json").document["status"] == "completed"


@pytest.mark.parametrize(
    ("command", "closed"),
    [
        *(("run chatty.py", closed) for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-")),
        ("executions list", ">&-"),
        ("executions list --json", "<&- >&-"),
        ("gone", "2>&-"),
    ],
)
def test_streams_that_are_closed(command: str, closed: str, kitaru: Kitaru) -> None:
    kitaru.write("chatty.py", CHATTY)
    line = f"{shlex.join(kitaru.command(command.split()))} {closed}"
    ran = subprocess.run(
        line, shell=True, cwd=kitaru.folder, env=kitaru.environ, timeout=240, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == (2 if command == "gone" else 0), ran.stderr
    if command.startswith("run"):
        assert kitaru("executions", "get", "latest", "--json").document["status"] == "completed"
