"""A real Airflow for tests: scheduler, triggerer and API server on loopback, and a database.

All are processes of the environment `.envs/airflow`, each the leader of a group that is ended by
its id. Whether they are ready is asked of them.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from tests import forks

_SECONDS = 480


@dataclass(frozen=True)
class Airflow:
    """A running Airflow: where it answers, and the folder that it reads DAG files from."""

    url: str
    folder: Path


@contextmanager
def running(python: Path, home: Path) -> Iterator[Airflow]:
    """Start an Airflow that has the DAG files in `home/dags`; end it with the block."""
    with tempfile.TemporaryDirectory() as held:
        yield from _running(python, home, Path(held) / "airflow.db")


def _running(python: Path, home: Path, database: Path) -> Iterator[Airflow]:
    port, steps = _free_port(), _free_port()
    environment = _environment(python, home, steps, database)
    # Its script `airflow` would start the interpreter at the path of its installation.
    airflow = [str(python), "-m", "airflow"]
    url = f"http://127.0.0.1:{port}"
    _once([*airflow, "db", "migrate"], environment, home)
    # Readers must not block writers, because many runs are active at once.
    with closing(sqlite3.connect(database)) as opened:
        opened.execute("PRAGMA journal_mode=WAL")
    # What people ask writes to the database from the server's one loop, which then cannot end what
    # a step has begun to write there: each has a server of its own.
    started = [
        _start([*airflow, "api-server", "--apps", apps, "--port", str(number)], environment, home)
        for apps, number in (("core", port), ("execution", steps))
    ]
    try:
        _once([*airflow, "dags", "reserialize"], environment, home)
        for one in ("scheduler", "triggerer"):
            started.append(_start([*airflow, one, "--skip-serve-logs"], environment, home))
        _wait_until_healthy(url, started, home)
        yield Airflow(url, home / "dags")
    finally:
        _end(started)


def _environment(python: Path, home: Path, port: int, database: Path) -> dict[str, str]:
    # A step ends at each sleep, however short it is.
    kept = {"KITARU_SLEEP_IN_PROCESS": "0"} | {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "KITARU_"))
    }
    settings = {
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__DAGS_FOLDER": str(home / "dags"),
        "CORE__PARALLELISM": "4",
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}?timeout=240",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "API__HOST": "127.0.0.1",
        "API__WORKERS": "1",
        "API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "WORKERS__EXECUTION_API_TIMEOUT": "240",
        "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    }
    return {
        **kept,
        **{f"AIRFLOW__{name}": value for name, value in settings.items()},
        "AIRFLOW_HOME": str(home),
        # bash reads ~/.bashrc if its standard input is a socket, as that of a task is.
        "HOME": str(home),
        "NO_PROXY": "127.0.0.1",
        # The steps are forks; they need none of Airflow's packages.
        "PATH": forks.with_forks(f"{python.parent}{os.pathsep}{os.environ['PATH']}"),
    }


def _once(command: list[str], environment: dict[str, str], home: Path) -> None:
    done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]


def _start(command: list[str], environment: dict[str, str], home: Path) -> subprocess.Popen[bytes]:
    with (home / f"{'_'.join(command[3:])}.log").open("wb") as log:
        return subprocess.Popen(
            command,
            env=environment,
            cwd=home,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _end(started: list[subprocess.Popen[bytes]]) -> None:
    """End all at once: each may take seconds to do so."""
    for what in (signal.SIGTERM, signal.SIGKILL):
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, what)
        for process in started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)


def _wait_until_healthy(url: str, started: list[subprocess.Popen[bytes]], home: Path) -> None:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        logs = {path.name: path.read_text(errors="replace")[-2000:] for path in home.glob("*.log")}
        assert all(process.poll() is None for process in started), logs
        if _healthy(url):
            return
        time.sleep(0.5)
    raise AssertionError(f"Airflow is not ready after {_SECONDS} s: {logs}")


def _healthy(url: str) -> bool:
    try:
        with urlopen(f"{url}/api/v2/monitor/health", timeout=60) as response:
            found: dict[str, Any] = json.load(response)
    except (URLError, ValueError, OSError):
        return False
    return {found["metadatabase"]["status"], found["scheduler"]["status"]} == {"healthy"}


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
