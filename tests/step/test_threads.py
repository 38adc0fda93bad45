"""Waits, cancellations and divergences in pool threads of a step: the process ends, rightly."""

from __future__ import annotations

from pathlib import Path

import pytest
from kitaru_targets import registry

from kitaru.cli.app import run
from kitaru.client import KitaruClient
from kitaru.view import ExecutionView

FLOWS = """
import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import kitaru
from kitaru import KitaruClient, checkpoint, flow

@checkpoint
def work(x: int) -> int:
    return x * 2

@checkpoint
def cancels(store: str) -> None:
    KitaruClient(store).executions.cancel(kitaru.current_execution_id())

def side_by_side(*works):
    with ThreadPoolExecutor(len(works)) as pool:
        started = [pool.submit(contextvars.copy_context().run, one) for one in works]
        return [one.result() for one in started]

async def in_thread():
    return await asyncio.to_thread(kitaru.wait, name="last", schema=bool)

@flow
def waits(n: int) -> list:
    first = work(n)
    names = ["left", "right"]
    asked = side_by_side(*[lambda name=name: kitaru.wait(name=name, schema=int) for name in names])
    last = asyncio.run(in_thread())
    return [first, asked, last, work(first)]

@flow
def cancelled(store: str) -> list:
    return side_by_side(lambda: (cancels(store), work(1)))

@flow
def diverges(file: str) -> list:
    def both():
        work(int(Path(file).read_text()), id="read")
        return kitaru.wait(name="go")
    return side_by_side(both)
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KITARU_STORE", f"sqlite:{tmp_path / 'k.db'}")
    (tmp_path / "threads.py").write_text(FLOWS)


def dry_run(flow: str, target: str, given: str) -> tuple[int, ExecutionView]:
    command = ["dry-run", f"threads.py:{flow}", "-t", target, "-i", given, "--no-input"]
    return run(command), KitaruClient().executions.latest()


@pytest.mark.parametrize("target", registry.names())
def test_waits_in_threads_end_the_step(target: str) -> None:
    code, view = dry_run("waits", target, "n=1")
    assert (code, view.status) == (0, "waiting")
    # The first thread that waits ends the process. The other one may have asked by then.
    assert view.waits and {one.name for one in view.waits} <= {"left", "right"}


def test_waits_in_threads_are_answered_one_by_one() -> None:
    _, view = dry_run("waits", "kubeflow", "n=1")
    values = {"right": "2", "left": "1", "last": "true"}
    while values:
        waiting = KitaruClient().executions.get(view.exec_id)
        # The last one asked, where both threads have asked.
        name = max(one.name for one in waiting.waits)
        answer = ["--wait", name, "--value", values.pop(name)]
        assert run(["executions", "input", view.exec_id, *answer]) == 0
    done = KitaruClient().executions.get(view.exec_id)
    assert (done.status, done.result) == ("completed", [2, [1, 2], True, 4])
    assert sorted(one.id for one in done.invocations if one.kind == "checkpoint") == [
        "work",
        "work_2",
    ]


def test_a_cancellation_in_a_thread_ends_the_step(tmp_path: Path) -> None:
    code, view = dry_run("cancelled", "kubeflow", f"store=sqlite:{tmp_path / 'k.db'}")
    assert (code, view.status) == (0, "cancelled")
    assert [one.id for one in view.invocations] == ["cancels"]


def test_a_divergence_in_a_thread_ends_the_step_with_a_failure(tmp_path: Path) -> None:
    read = tmp_path / "read"
    read.write_text("1")
    _, view = dry_run("diverges", "kubeflow", f"file={read}")
    assert view.status == "waiting"
    read.write_text("2")
    assert run(["executions", "input", view.exec_id, "--value", "true"]) == 1
    failed = KitaruClient().executions.get(view.exec_id)
    assert failed.status == "failed" and failed.error is not None
    assert failed.error.type.endswith("Diverged")
