"""A forked child prints, ends and uses stores, and is not part of its parent's execution."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kitaru import KitaruClient

FLOW = """
import multiprocessing, os, signal, sys, threading, time
import kitaru
from kitaru import KitaruClient, checkpoint, flow

def child(what):
    pid = os.fork()
    if pid:
        for _ in range(2000):
            if os.waitpid(pid, os.WNOHANG)[0]:
                return 1
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        raise AssertionError("the child hangs")
    what()
    os._exit(0)

def talk(stop):
    while not stop.is_set():
        print("noise", flush=True)
        time.sleep(0)

def use_store():
    assert KitaruClient().executions.list()
    @flow
    def inner() -> int:
        return 7
    assert inner.run().wait() == 7

def work(n):
    print("worker", n, flush=True)
    return n * n
"""
PRINTING = """
@checkpoint
def many(forks: int) -> int:
    stop = threading.Event()
    threads = [threading.Thread(target=talk, args=(stop,)) for _ in range(3)]
    for one in threads:
        one.start()
    try:
        return sum(child(lambda: print("child", flush=True)) for _ in range(forks))
    finally:
        stop.set()
        for one in threads:
            one.join()

@flow
def work_flow() -> int:
    return many(150)

if __name__ == "__main__":
    print(work_flow.run().wait(), file=sys.stderr)
"""
USING = """
@checkpoint
def once() -> int:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        squares = pool.map(work, range(4))
    process = multiprocessing.get_context("fork").Process(target=sys.exit, args=(0,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    pid = os.fork()
    if not pid:
        return 1000  # a child that returns into the flow
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    pid = os.fork()
    if not pid:
        sys.exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    return child(use_store) + sum(squares)

@flow
def work_flow() -> int:
    return once()

if __name__ == "__main__":
    print(work_flow.run().wait(), file=sys.stderr)
"""


@pytest.mark.parametrize(("program", "result"), [(PRINTING, "150"), (USING, "15")])
def test_a_flow_that_forks(
    program: str, result: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KITARU_STORE", f"sqlite:{tmp_path / 'kitaru.db'}")
    monkeypatch.chdir(tmp_path)
    Path("seed.py").write_text(FLOW + program)
    done = subprocess.run(
        [sys.executable, "seed.py"], capture_output=True, text=True, timeout=240, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (done.returncode, done.stderr.split()[-1:]) == (0, [result]), done.stderr
    kinds = {item["flow"]: item["status"] for item in KitaruClient().executions.list()}
    assert kinds.pop("work_flow") == "completed"
    assert set(kinds.values()) <= {"completed"}
