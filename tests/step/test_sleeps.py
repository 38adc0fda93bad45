"""A step that an orchestrator starts again at a deadline lets the wait expire, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from kitaru_compiler import compile_flow
from kitaru_targets import build, registry

from kitaru.client import KitaruClient
from kitaru.stores import open_store
from kitaru.wire import keys
from kitaru.wire.times import seconds_until

NAP = """
import kitaru
from kitaru import checkpoint, flow


@checkpoint
def note(word: str) -> str:
    print("called", word, flush=True)
    return word


@flow
def nap() -> str:
    first = note("before")
    kitaru.sleep(1)
    late = kitaru.wait(name="late", schema=str, deadline=1, default="nobody")
    return f"{first} {late}"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # The process ends at each sleep, however short it is.
    monkeypatch.setenv("KITARU_SLEEP_IN_PROCESS", "0")
    (tmp_path / "nap.py").write_text(NAP)
    target = registry.get("stepfunctions")
    compilation = compile_flow(tmp_path / "nap.py", profile=target.profile)
    build.write(compilation, target, tmp_path / "kitaru_build")
    return tmp_path


def start(folder: Path, step: str) -> subprocess.Popen[str]:
    """Start a step as the state machine does."""
    command = [
        sys.executable, "-m", "kitaru.runtime", "step", "--plan", "kitaru_build/plan.json",
        "--step", step, "--run", "r1", "--execution", "e1", "--store", url(folder),
        "--outcome-file", f"out/{step}", "--longest-wait", "60",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(folder)}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def url(folder: Path) -> str:
    return f"sqlite:{folder / 'store.db'}"


def run(folder: Path, step: str) -> tuple[dict[str, Any], str]:
    process = start(folder, step)
    log, _ = process.communicate(timeout=240)
    assert process.returncode == 0, log
    return json.loads((folder / "out" / step).read_text()), log


def pass_until(outcome: dict[str, Any]) -> None:
    """Wait as the orchestrator does."""
    time.sleep(max(0.0, seconds_until(outcome["wait"]["until"])))


def test_a_step_sleeps_natively_and_a_question_expires(folder: Path) -> None:
    asleep, log = run(folder, "note")
    assert (asleep["status"], asleep["wait"]["kind"]) == ("waiting", "timer")
    assert 0 < asleep["wait"]["seconds"] <= 2
    assert "called before" in log
    pass_until(asleep)
    # Two processes at once: both read the answer that the first one has written.
    both = [start(folder, "note") for _ in range(2)]
    logs = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], logs
    assert "called" not in "".join(logs), "what is recorded does not run again"
    asked = json.loads((folder / "out" / "note").read_text())
    assert (asked["status"], asked["wait"]["kind"]) == ("waiting", "question")
    pass_until(asked)
    assert run(folder, "late_answer")[0]["status"] == "end"
    execution = KitaruClient(url(folder)).executions.get("e1")
    assert execution.result == "before nobody"
    answers = open_store(url(folder)).list(keys.wait_answer("e1", "late", 1))
    assert len(answers) == 1
