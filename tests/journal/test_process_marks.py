"""An execution is shown as interrupted on evidence only: its process is certainly gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from kitaru.client import KitaruClient
from kitaru.runtime.journal import processes
from kitaru.stores import open_store
from kitaru.stores.base import Store
from kitaru.stores.memory import MemoryStore
from kitaru.wire import keys
from tests.fire.explore import Asking, Model, Objects, Process

FLOW = """
import os, sys, time
from kitaru import checkpoint, flow
from kitaru.errors import StoreUnavailable

@checkpoint
def first() -> int:
    return 1

@checkpoint
def second(n: int, how: str) -> int:
    if how == "environment":
        raise StoreUnavailable("a key is missing")
    print("reached", flush=True)
    time.sleep(60) if how == "sleep" else None
    return n + 1

@flow
def two(how: str = "") -> int:
    return second(first(), how)

if __name__ == "__main__":
    print(two.options(store=sys.argv[1]).run(how=sys.argv[2]).wait())
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:{tmp_path / 'k.db'}")


def started(tmp_path: Path, how: str) -> subprocess.Popen[str]:
    (tmp_path / "two.py").write_text(FLOW)
    command = [sys.executable, "two.py", f"sqlite:{tmp_path / 'k.db'}", how]
    return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)


def statuses(store: Store) -> tuple[str, str, list[str]]:
    client = KitaruClient(store)
    listed = [item["status"] for item in client.executions.list()]
    filtered = [item["status"] for item in client.executions.list(status="interrupted")]
    return str(client.executions.get("latest").status), listed[0], filtered


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_execution_is_interrupted_until_it_is_resumed(
    stop: signal.Signals, tmp_path: Path, store: Store
) -> None:
    with started(tmp_path, "sleep") as running:
        assert running.stdout is not None and "reached" in running.stdout.readline()
        assert statuses(store) == ("running", "running", [])
        running.send_signal(stop)
        running.wait(60)
        assert statuses(store) == ("interrupted", "interrupted", ["interrupted"])
    view = KitaruClient(store).executions.get("latest")
    assert view.last_sign == view.invocations[-1].ended_at
    assert view.to_dict()["status"] == "interrupted" and view.to_dict()["last_sign"]
    processes.join(store, view.exec_id)
    assert statuses(store)[:2] == ("running", "running"), "this process runs it now"


def test_what_the_environment_ended_is_interrupted(tmp_path: Path, store: Store) -> None:
    with started(tmp_path, "environment") as running:
        running.wait(60)
    assert statuses(store) == ("interrupted", "interrupted", ["interrupted"])


def test_what_completed_stays_completed(tmp_path: Path, store: Store) -> None:
    with started(tmp_path, "") as running:
        running.wait(60)
    assert statuses(store) == ("completed", "completed", [])


def token(**other: str) -> str:
    names = ("machine", "boot", "namespace", "pid", "started")
    mine = dict(zip(names, processes._token(os.getpid()).split("-"), strict=True))
    return "-".join({**mine, **other}.values())


GONE = str(2**22 + 7)


@pytest.mark.parametrize(
    ("other", "gone"),
    [
        ({}, False),
        ({"pid": GONE}, True),
        ({"started": "1"}, True),
        ({"started": "0"}, False),
        ({"boot": "a" * 12}, True),
        ({"boot": "0", "pid": GONE}, True),
        ({"machine": "a" * 12, "pid": GONE}, False),
        ({"namespace": "1", "pid": GONE}, False),
        ({"pid": "x"}, False),
    ],
)
def test_the_evidence(other: dict[str, str], gone: bool) -> None:
    store = MemoryStore()
    store.create(keys.process("e1", token(**other)), b"")
    assert processes.all_gone(store, "e1") is gone
    store.create(keys.process("e1", token()), b"")
    assert not processes.all_gone(store, "e1"), "one process that is alive is enough"


def test_without_a_mark_nothing_is_known() -> None:
    assert not processes.all_gone(MemoryStore(), "e1")


def joining(name: str) -> Process:
    """Return a process that tries three times to run an execution."""

    def run(store: Asking) -> bool:
        with mock.patch.object(processes, "own_token", lambda: name):
            return any(processes.take_over(store, "e1") for _ in range(3))

    return Process(name, run)


@pytest.mark.parametrize("marked", [(), ("a",), ("b", "c"), ("a", "b", "c")])
def test_one_of_several_processes_takes_over(marked: tuple[str, ...]) -> None:
    """In every order of their operations, also if some already have a mark."""
    runners = []

    def ended(objects: Objects, outcomes: list[bool]) -> None:
        left = {key.removeprefix(keys.processes("e1")) for key in objects}
        ran = {name for name, outcome in zip("abc", outcomes, strict=True) if outcome}
        assert len(ran) <= 1 and ran <= left <= ran | {"a", "b"}
        runners.append(ran)

    begun = {keys.process("e1", name): b"" for name in marked}
    model = Model([joining(name) for name in "abc"], no_check, no_check, ended, 0, 0)
    model.explore(begun)
    assert any(runners)


def no_check(*_: Any) -> None:
    """Check the ends only."""
