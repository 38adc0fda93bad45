"""Beats: what a running execution does now, and since when it is silent."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kitaru import KitaruClient, checkpoint, flow
from kitaru.runtime.executions.gc import collect
from kitaru.runtime.telemetry import beats
from kitaru.stores import open_store
from kitaru.stores.memory import MemoryStore
from kitaru.wire import keys
from kitaru.wire.times import ago
from tests import waiting

go_on = threading.Event()
# The first beat comes after a second.
wait_until = partial(waiting.wait_until, seconds=60.0)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


FLOW = """
import sys, time
from kitaru import checkpoint, flow

@checkpoint
def quick(): ...

@checkpoint
def slow():
    time.sleep(600)

@flow
def slow_flow():
    quick()
    slow()

slow_flow.options(store=sys.argv[1], exec_id="slow-1").run().wait()
"""


@checkpoint
def quick() -> int:
    return 1


@checkpoint(retries=1, retry_delay=0)
def slow() -> int:
    assert go_on.wait(60)
    return 2


@flow
def slow_flow() -> int:
    return quick() + slow()


def is_live(store: MemoryStore) -> bool:
    """Return whether the thread of the process still writes beats into a store."""
    return any(one._record_store.store is store for one in list(beats._live.values()))


def test_what_runs_now_is_shown(store: MemoryStore) -> None:
    go_on.clear()
    client = KitaruClient(store)
    handle = slow_flow.options(store=store, exec_id="slow-1").run()

    def under_way() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = client.executions.get("slow-1").to_dict()["under_way"]
        return found

    wait_until(lambda: under_way() != [])
    [one] = under_way()
    assert (one["id"], one["attempt"]) == ("slow", 1)
    assert one["site"].startswith("test_beats.py:")
    assert one["began_at"] < one["seen_at"]
    [row] = client.executions.page().items
    assert row["up"] == {"kind": "running", "id": "slow", "text": one["site"]}
    assert row["silent_since"] == ""
    go_on.set()
    assert handle.wait(60) == 3
    assert under_way() == []
    assert client.executions.page().items[0]["up"]["kind"] == "result"
    assert len(store.list(keys.beats("slow-1"))) == 1, "earlier beats are deleted"
    list(collect(store, timedelta(0)))
    assert store.list("x/slow-1/beat/") == []


def test_quick_executions_write_no_beat(store: MemoryStore) -> None:
    go_on.set()
    assert slow_flow.options(store=store, exec_id="quick-1").run().wait(60) == 3
    assert store.list(keys.beats("quick-1")) == []
    wait_until(lambda: not is_live(store))


def test_silence_is_a_view(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on.clear()
    handle = slow_flow.options(store=store, exec_id="slow-1").run()
    wait_until(lambda: store.list(keys.beats("slow-1")) != [])
    client = KitaruClient(store)
    monkeypatch.setattr(beats, "SILENT_SECONDS", -1.0)
    document = client.executions.get("slow-1").to_dict()
    assert document["status"] == "running"
    assert document["silent_since"] == document["last_sign"] > ago(timedelta(hours=1))
    assert client.executions.page().items[0]["silent_since"] == document["silent_since"]
    monkeypatch.undo()
    assert client.executions.get("slow-1").to_dict()["silent_since"] == ""
    go_on.set()
    handle.wait(60)


def test_what_a_killed_process_did(tmp_path: Path) -> None:
    url, script = f"sqlite:{tmp_path}/kitaru.db", tmp_path / "slow_script.py"
    script.write_text(FLOW)
    with subprocess.Popen([sys.executable, script, url]) as process:
        store = open_store(url)
        wait_until(lambda: store.list(keys.beats("slow-1")) != [])
        process.send_signal(signal.SIGKILL)
    view = KitaruClient(store).executions.get("slow-1")
    assert view.status == "interrupted"
    assert [one.id for one in view.signs.under_way] == ["slow"]


@pytest.mark.parametrize("error", [MemoryError, SystemExit])
def test_a_store_that_fails_does_not_disturb(
    store: MemoryStore, error: type[BaseException]
) -> None:
    class Failing(MemoryStore):
        failed = 0

        def create(self, key: str, value: bytes) -> bool:
            if "/beat/" in key:
                self.failed += 1
                raise error
            return super().create(key, value)

    failing = Failing()
    go_on.clear()
    handle = slow_flow.options(store=failing, exec_id="slow-1").run()
    wait_until(lambda: failing.failed)
    other = slow_flow.options(store=store, exec_id="slow-2").run()
    wait_until(lambda: store.list(keys.beats("slow-2")) != [])
    go_on.set()
    assert handle.wait(60) == other.wait(60) == 3


def test_a_thread_that_has_died_is_replaced(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = threading.Thread(target=int)
    dead.start()
    dead.join()
    monkeypatch.setattr(beats, "_thread", dead)
    go_on.clear()
    handle = slow_flow.options(store=store, exec_id="slow-1").run()
    wait_until(lambda: store.list(keys.beats("slow-1")) != [])
    go_on.set()
    assert handle.wait(60) == 3
