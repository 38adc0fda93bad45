"""SIGTERM ends a process as Ctrl-C does: logs are written, the next command is printed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kitaru import KitaruClient
from kitaru.runtime.telemetry import logs
from tests.step.build import Program, block, step

FLOW = """
import os, signal, sys, time
import kitaru
from kitaru import checkpoint, flow

@checkpoint
def slow() -> int:
    print("slow begins")
    print("READY", file=sys.stderr, flush=True)
    time.sleep(60)
    return 1

@flow
def busy() -> int:
    return slow()

@flow
def asking() -> bool:
    print("asks")
    return kitaru.wait(name="fine", question="Fine?", schema=bool)
"""
SCRIPTS = {
    "wait": "busy.run().wait()",
    "sleep": "busy.run()\ntime.sleep(60)",
    "the end": "busy.run()",
    "finally": "try:\n    busy.run().wait()\nfinally:\n    print('cleaned', flush=True)",
}


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_STORE", f"sqlite:{tmp_path / 'kitaru.db'}")
    monkeypatch.chdir(tmp_path)


def started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def terminated(process: subprocess.Popen[str], when: str) -> tuple[int, str, str]:
    """Send SIGTERM once `when` stands on stderr; return the exit code and what came after."""
    assert process.stderr is not None
    try:
        while when not in (line := process.stderr.readline()):
            assert line, "it ended before"
        process.terminate()
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
        process.communicate()
    return process.returncode, out, err


def only() -> Any:
    (item,) = KitaruClient().executions.list()
    return KitaruClient().executions.get(item["exec_id"])


def logged(execution: Any) -> list[str]:
    return [line.text for line in logs.lines(execution.journal, None, follow=False)]


@pytest.mark.parametrize("end", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_a_script(end: str) -> None:
    Path("seed.py").write_text(f"{FLOW}\n{end}")
    code, out, err = terminated(started("seed.py"), "READY")
    execution = only()
    assert (code, execution.status) == (143, "interrupted")
    assert f"resume   kitaru executions resume {execution.exec_id}" in err
    assert "Traceback" not in err
    assert "slow begins" in logged(execution)
    assert ("cleaned" in out) == ("cleaned" in end)


def test_a_script_that_waits() -> None:
    Path("seed.py").write_text(f"{FLOW}\nasking.run().wait()")
    code, _, _ = terminated(started("seed.py"), "answer   kitaru executions input")
    assert (code, only().status, logged(only())) == (143, "waiting", ["asks"])


def test_kitaru_run() -> None:
    Path("seed.py").write_text(FLOW)
    code, _, err = terminated(started("-m", "kitaru", "run", "seed.py:busy"), "READY")
    execution = only()
    assert (code, execution.status) == (143, "interrupted")
    assert f"kitaru executions resume {execution.exec_id}" in err
    assert "slow begins" in logged(execution)


def test_a_step(tmp_path: Path) -> None:
    text = "def _b1(v):\n    return None, slow()\n"
    program = Program(
        tmp_path, FLOW.replace("busy", "the_flow").replace("the_flow()", "the_flow(topic: str)"),
        text, (block("_b1", "code", (None,), ("topic",)),), (step("s1", "_b1", "_b1"),),
    )  # fmt: skip
    code, _, err = terminated(program.start("s1"), "READY")
    assert code == 143, err
    assert "terminated by SIGTERM" in err
    assert "kitaru executions resume e1 --store" in err
    journal = program.journal()
    assert journal.state().status == "running"
    assert "slow begins" in [line.text for line in logs.lines(journal, None, follow=False)]


OWN = """
signal.signal(signal.SIGTERM, lambda *_: print("own handler", flush=True) or os._exit(7))
handle = busy.run()
time.sleep(60)
"""


def test_a_handler_of_the_program_s_own_stays() -> None:
    Path("seed.py").write_text(FLOW + OWN)
    code, out, _ = terminated(started("seed.py"), "READY")
    assert (code, "own handler" in out) == (7, True)


DONE = """
if __name__ == "__main__":
    @flow
    def quick() -> int:
        return 1
    quick.run().wait()
    print("READY", file=sys.stderr, flush=True)
    time.sleep(60)
"""


def test_a_script_that_has_nothing_to_end_well_ends_at_once() -> None:
    Path("seed.py").write_text(FLOW + DONE)
    code, _, err = terminated(started("seed.py"), "READY")
    assert (code, err) == (-signal.SIGTERM, "")
