"""Starts with a key: the same key of a flow is the same execution."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kitaru.client import KitaruClient
from kitaru.errors import InputError, StateError, UsageError
from kitaru.stores import open_store
from kitaru.stores.base import Store
from kitaru.wire.ids import MAX_KEY
from tests.waiting import wait_until

FLOW = """
import os
from kitaru import checkpoint, flow

@checkpoint
def note(text: str) -> str:
    file = os.open("ran.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, b"x")
    os.close(file)
    return text

@flow
def noting(text: str) -> str:
    return note(text)
"""

GO = """
def go(text: str) -> str:
    import time
    for _ in range(24_000):
        if os.path.exists("go"):
            return text
        time.sleep(0.01)
    raise AssertionError("not told to go")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "noting.py").write_text(FLOW)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:{tmp_path}/kitaru.db")


def command(store: Store, *words: str) -> list[str]:
    return [sys.executable, "-m", "kitaru", *words, "--store", store.url, "--json"]


def test_processes_with_one_key_run_one_execution(folder: Path, store: Store) -> None:
    words = command(store, "run", "noting.py", "-i", "text=tea", "--key", "order 7")
    both = [subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(2)]
    for one in both:
        shown, _ = one.communicate()
        assert one.returncode == 0 and b'"completed"' in shown, shown
    assert (folder / "ran.txt").read_text() == "x"
    other = subprocess.run(
        command(store, "run", "noting.py", "-i", "text=milk", "--key", "order 7"),
        capture_output=True,
        check=False,
    )
    assert other.returncode == 2 and b"order 7" in other.stderr + other.stdout


def test_another_process_with_the_key_replaces_a_killed_one(folder: Path, store: Store) -> None:
    slow = FLOW.replace('b"x"', 'b"%d " % os.getpid()').replace("return text", "return go(text)", 1)
    (folder / "noting.py").write_text(slow + GO)
    words = command(store, "run", "noting.py", "-i", "text=tea", "--key", "order 7")
    started = [subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(2)]
    both = {one.pid: one for one in started}
    ran = folder / "ran.txt"
    ran.touch()
    try:
        wait_until(lambda: ran.read_text().endswith(" "))
        first = both.pop(int(ran.read_text()))
        first.kill()
        first.wait()
        (other,) = both.values()
        wait_until(lambda: ran.read_text() == f"{first.pid} {other.pid} ")
        (folder / "go").touch()
        other.wait(timeout=240)
    finally:
        for one in started:
            one.kill()
            shown = one.communicate()[0]
    assert ran.read_text() == f"{first.pid} {other.pid} " and other.returncode == 0, shown


def test_a_key_of_a_deployed_flow_keeps_its_version(folder: Path, store: Store) -> None:
    client = KitaruClient(store)
    deploy, invoke = client.deployments.deploy, client.deployments.invoke
    deploy("noting.py", "local")
    with pytest.raises(InputError):
        invoke("noting", {"other": 1}, key="order 7")
    first = invoke("noting", {"text": "tea"}, key="order 7")
    assert first.wait() == "tea"
    (folder / "noting.py").write_text(FLOW.replace("return note(text)", "return note(text) * 2"))
    deploy("noting.py", "local", tag="default")
    again = invoke("noting", {"text": "tea"}, key="order 7")
    assert (again.exec_id, again.wait()) == (first.exec_id, "tea")
    assert invoke("noting", {"text": "tea"}, key="order 8").wait() == "teatea"
    with pytest.raises(StateError, match="'order 7' of noting has started"):
        invoke("noting", {"text": "milk"}, key="order 7")
    for wrong in ("", "x" * (MAX_KEY + 1)):
        with pytest.raises(UsageError, match="cannot identify a start"):
            invoke("noting", {"text": "tea"}, key=wrong)
    with pytest.raises(UsageError, match="Both an execution id and a key"):
        invoke("noting", {"text": "tea"}, key="a", exec_id="b")
