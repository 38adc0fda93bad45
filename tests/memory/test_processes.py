"""Real processes: sixteen writers of one key, and a flow killed at every store operation."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kitaru import KitaruClient
from kitaru.wire.records import InvocationRecord
from tests.step.build import end_zygote, zygote

from .writer import SCOPE, add

WRITER = Path(__file__).with_name("writer.py")
WRITERS, EACH = 16, 50


@pytest.fixture(autouse=True, scope="module")
def no_zygote_is_left() -> Iterator[None]:
    yield
    end_zygote()


def agreed(url: str, written: list[list[int]]) -> None:
    """Hold the key against what its writers were told."""
    memory = KitaruClient(url).memory
    everything = sorted(version for versions in written for version in versions)
    assert everything == list(range(1, len(everything) + 1)), "a version twice, or none"
    assert [v.version for v in memory.history("count", scope=SCOPE)] == everything
    assert memory.get("count", scope=SCOPE) == len(everything), "an addition was lost"


@pytest.mark.parametrize("url", ["sqlite:{}/count.db", "memory:count"])
def test_sixteen_threads_lose_nothing(tmp_path: Path, url: str) -> None:
    url = url.format(tmp_path)
    memory = KitaruClient(url).memory
    written: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: written.append(add(memory, EACH))) for _ in range(WRITERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(versions) for versions in written] == [EACH] * WRITERS
    agreed(url, written)


def test_sixteen_processes_lose_nothing(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/count.db"
    KitaruClient(url)
    command = [sys.executable, str(WRITER), url, str(EACH)]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(WRITERS)]
    said = [writer.communicate()[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * WRITERS
    agreed(url, [[int(word) for word in line.split()] for line in said])


SOURCE = """\
import kitaru
from kitaru import checkpoint, flow, memory


@checkpoint
def double(value):
    return value * 2


@flow
def remembers():
    seen = memory.get("count", 0)
    memory.set("count", seen + 1)
    memory.set("large", "large" * 20_000)
    value = double(memory.get("count"))
    memory.set("count", value)
    memory.delete("large")
    memory.set("count", value + 1, expect=2)
    return [value, memory.list(), len(memory.history("count")), memory.get("large", "gone")]
"""
RUN = """\
import sys
sys.modules.pop("flow_file", None)
import flow_file
flow_file.remembers.options(exec_id="e1").run().wait()
"""
WROTE = ["memory_set", "memory_set_3", "memory_set_4"]


def records(url: str) -> dict[str, InvocationRecord]:
    client = KitaruClient(url)
    found = client.executions.list()
    return {r.id: r for r in client.executions.get("e1").invocations} if found else {}


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_every_store_operation(tmp_path: Path, moment: str) -> None:
    folder = tmp_path
    (folder / "flow_file.py").write_text(SOURCE)
    operations = 0
    for at in range(1, 400):
        url = f"sqlite:{folder}/{at}.db"
        run = f"import os; os.environ['KITARU_STORE'] = {url!r}\n" + RUN
        log = folder / "log.txt"
        code = zygote(str(folder), str(log), f"{moment}:{at}", run)
        before = records(url)
        if code != 0:
            assert code == -9
            assert zygote(str(folder), str(log), "", run) == 0, log.read_text()
        after = records(url)
        assert all(after[id] == record for id, record in before.items()), "a record changed"
        view = KitaruClient(url).executions.get("e1")
        assert view.result == [2, ["count"], 3, "gone"]
        history = KitaruClient(url).memory.history("count", scope="flow:remembers")
        assert [v.operation for v in history] == [f"e1/{id}" for id in WROTE], "not written once"
        if code == 0:
            operations = at - 1
            break
    assert operations > 60
