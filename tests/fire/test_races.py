"""Real processes that do the same thing at the same time, or long after they were given up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from kitaru import KitaruClient

ROUNDS = 100
RACER = [sys.executable, "-m", "tests.fire.racer"]
ROOT = Path(__file__).parents[2]


@contextmanager
def racer(url: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start a process that runs executions as they are named to it."""
    process = subprocess.Popen(
        [*RACER, url],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def tell(process: subprocess.Popen[str], exec_id: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{exec_id}\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr and process.stderr.read()
    return json.loads(line)


def recorded(url: str, exec_id: str) -> Any:
    view = KitaruClient(url).executions.get(exec_id)
    assert [record.id for record in view.invocations] == ["mine"]
    assert view.status == "completed"
    return view.result


def test_two_in_lockstep(tmp_path: Path) -> None:
    """Fault 9: whoever wins, both say the same, and it is what is recorded."""
    url, winners = f"sqlite:{tmp_path}/store.db", set()
    with racer(url) as one, racer(url) as other:
        for number in range(ROUNDS):
            tell(one, f"e{number}")
            tell(other, f"e{number}")
            result = hear(one)
            assert hear(other) == result == recorded(url, f"e{number}")
            winners.add(result[0])
        assert winners <= {one.pid, other.pid}


def test_different_machines(tmp_path: Path) -> None:
    """Faults 39, 40: another clock, zone, locale, hash seed and umask change nothing."""
    url = f"sqlite:{tmp_path}/store.db"
    elsewhere = {
        "TZ": "Pacific/Kiritimati",
        "LC_ALL": "tr_TR.UTF-8",
        "PYTHONHASHSEED": "7",
        "PYTHONUTF8": "0",
        "RACER_YEARS": "10",
    }
    with ExitStack() as stack:
        mask = os.umask(0o077)
        stack.callback(os.umask, mask)
        one = stack.enter_context(racer(url, TZ="Asia/Kabul", RACER_YEARS="-10"))
        os.umask(0o002)
        other = stack.enter_context(racer(url, **elsewhere))
        for number in range(6):
            first, second = (one, other) if number % 2 else (other, one)
            tell(first, f"e{number}")
            tell(second, f"e{number}")
            assert hear(one) == hear(other) == recorded(url, f"e{number}")
    listed = KitaruClient(url).executions.list()
    assert {item["exec_id"] for item in listed} == {f"e{number}" for number in range(6)}
    assert {item["status"] for item in listed} == {"completed"}


def held(folder: Path) -> dict[str, str]:
    """Return what lets a process stay in its checkpoint until there is a gate, and say so."""
    return {"RACER_CALLED": str(folder / "called"), "RACER_GATE": str(folder / "gate")}


def test_a_zombie_finishes_after_its_successor(tmp_path: Path) -> None:
    """Fault 11: it learns what is recorded, and changes nothing."""
    url = f"sqlite:{tmp_path}/store.db"
    with racer(url, **held(tmp_path)) as zombie, racer(url) as successor:
        tell(zombie, "e1")
        wait_for(tmp_path / "called")
        zombie.send_signal(signal.SIGSTOP)
        tell(successor, "e1")
        result = hear(successor)
        before = KitaruClient(url).executions.get("e1").to_dict()
        (tmp_path / "gate").touch()
        zombie.send_signal(signal.SIGCONT)
        assert hear(zombie) == result == [successor.pid, "x" * 10]
        assert KitaruClient(url).executions.get("e1").to_dict() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_ended_in_user_code(tmp_path: Path, number: signal.Signals) -> None:
    """Faults 3, 6, 7: what was under way runs again, and nothing else is different."""
    url = f"sqlite:{tmp_path}/store.db"
    with racer(url, **held(tmp_path)) as ended:
        tell(ended, "e1")
        wait_for(tmp_path / "called")
        ended.send_signal(number)
        assert ended.wait(60) == -number
    with racer(url) as successor:
        tell(successor, "e1")
        assert hear(successor) == recorded(url, "e1") == [successor.pid, "x" * 10]


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
