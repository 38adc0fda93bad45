"""Real processes on a real disk: killed with -9 at any point, and fifty at once."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from kitaru.runtime.executions.listing import list_executions
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store
from kitaru.wire.records import stored_values

WORKER = Path(__file__).with_name("worker.py")
COUNT = 12


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(WORKER), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def lines_until_killed(process: subprocess.Popen[str], after: int) -> list[str]:
    """Return what the process said in whole lines; kill it as soon as it has said `after` lines."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if len(said) == after:
            process.kill()
    process.stdout.close()
    process.wait()
    return [line for line in said if line.endswith("\n")]


def recorded(said: list[str]) -> dict[str, str]:
    words = [line.split() for line in said]
    return {line[1]: line[2] for line in words if line[0] == "recorded"}


@pytest.mark.parametrize("seed", range(4))
def test_killed_anywhere_again_and_again(tmp_path: Path, seed: int) -> None:
    url, chance = f"sqlite:{tmp_path}/kitaru.db", random.Random(seed)
    acknowledged: dict[str, str] = {}
    said: list[str] = []
    for round in range(30):
        said = lines_until_killed(start(url, "e", round, COUNT), chance.randrange(1, 9))
        for id in recorded(said):
            assert id not in acknowledged, "a recorded checkpoint ran again"
        acknowledged |= recorded(said)
        if said and said[-1].startswith("ended"):
            break
    assert said[-1].startswith("ended")
    store = open_store(url)
    journal = Journal.open(store, "e")
    held = {record.id: record for record in journal.invocations()}
    assert set(held) == {f"ck_{n}" for n in range(COUNT)}
    for id, digest in acknowledged.items():
        assert [value.digest for value in stored_values(held[id])] == [digest]
    for record in held.values():
        assert [journal.fetch(value) for value in stored_values(record)]
    assert [item["status"] for item in list_executions(store)] == ["completed"]
    store.close()


def test_fifty_processes_at_once_make_one_execution(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/deep/kitaru.db"
    racers = start(url, "e", "racer", 4, 50)
    said = lines_until_killed(racers, -1)
    assert racers.returncode == 0
    store = open_store(url)
    journal = Journal.open(store, "e")
    held = {r.id: r.value.digest for r in journal.invocations() if r.value is not None}
    returned = {tuple(line.split()[1:]) for line in said if line.startswith("recorded")}
    assert returned == set(held.items())
    end = journal.end()
    assert end is not None and end.result is not None
    ended = [line.split()[1] for line in said if line.startswith("ended")]
    assert ended == [end.result.digest] * 50
    assert len(list_executions(store)) == 1
    assert [path.name for path in (tmp_path / "deep").iterdir() if path.name.startswith(".")] == []
    store.close()


def test_killed_while_the_store_is_made(tmp_path: Path) -> None:
    chance = random.Random(1)
    for round in range(6):
        url = f"sqlite:{tmp_path}/{round}/kitaru.db"
        process = start(url, "e", "a", 1)
        try:
            process.wait(timeout=0.03 + chance.random() * 0.06)
        except subprocess.TimeoutExpired:
            process.kill()
        lines_until_killed(process, -1)
        assert lines_until_killed(start(url, "e", "b", 1), -1)[-1].startswith("ended")
