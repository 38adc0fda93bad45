"""Real processes that do the same work concurrently, or continue after their replacement."""

from __future__ import annotations

import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from kitaru import KitaruClient
from kitaru.stores import open_store
from tests.stores.servers.real import HOST, Server, serving
from tests.waiting import stop, wait_for_file

from .faults import look

ROUNDS = 100
RACER = [sys.executable, "-m", "tests.fire.racer"]
ROOT = Path(__file__).parents[2]


@contextmanager
def racer(url: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start a process that runs the executions whose ids it reads."""
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


def lockstep(url: str, meets: Path, rounds: int) -> None:
    """Fault 9: both run the checkpoint concurrently; one result is recorded, both return it."""
    meets.mkdir()
    with racer(url, RACER_MEETS=str(meets)) as one, racer(url, RACER_MEETS=str(meets)) as other:
        for number in range(rounds):
            tell(one, f"e{number}")
            tell(other, f"e{number}")
            result = hear(one)
            assert hear(other) == result == recorded(url, f"e{number}")
            assert result[0] in {one.pid, other.pid}
    assert len(list(meets.iterdir())) == 2 * rounds


def test_two_in_lockstep(tmp_path: Path) -> None:
    lockstep(f"sqlite:{tmp_path}/store.db", tmp_path / "meets", ROUNDS)


@pytest.fixture(scope="module", params=["seaweedfs", "azurite"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    pytest.importorskip("obstore")
    with serving(request.param, tmp_path_factory.mktemp("server")) as found:
        yield found


def test_two_in_lockstep_on_a_bucket(server: Server, tmp_path: Path) -> None:
    with patch.dict(os.environ, server.environment):
        lockstep(f"{server.kind.url}/lockstep", tmp_path / "meets", ROUNDS // 10)


def test_different_machines(tmp_path: Path) -> None:
    """Faults 39, 40: another clock, zone, locale, hash seed and umask change no result."""
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


def test_a_zombie_finishes_after_its_successor(tmp_path: Path) -> None:
    """Fault 11: it reads the recorded result, and changes nothing."""
    url = f"sqlite:{tmp_path}/store.db"
    with racer(url, RACER_GATE=str(tmp_path)) as zombie, racer(url) as successor:
        tell(zombie, "e1")
        wait_for_file(tmp_path / "called")
        stop(zombie.pid, tmp_path / "store.db")
        tell(successor, "e1")
        result = hear(successor)
        before = KitaruClient(url).executions.get("e1").to_dict()
        (tmp_path / "open").touch()
        zombie.send_signal(signal.SIGCONT)
        assert hear(zombie) == result == [successor.pid, "x" * 10]
        assert KitaruClient(url).executions.get("e1").to_dict() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_ended_in_user_code(tmp_path: Path, number: signal.Signals) -> None:
    """Faults 3, 7: the interrupted work runs again, and there is no other difference."""
    url = f"sqlite:{tmp_path}/store.db"
    with racer(url, RACER_GATE=str(tmp_path)) as ended:
        tell(ended, "e1")
        wait_for_file(tmp_path / "called")
        ended.send_signal(number)
        assert ended.wait(60) == {signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    with racer(url) as successor:
        tell(successor, "e1")
        assert hear(successor) == recorded(url, "e1") == [successor.pid, "x" * 10]


def test_out_of_memory(tmp_path: Path) -> None:
    """Fault 7: without memory to record a value, neither the value nor a failure is recorded."""
    url, many = f"sqlite:{tmp_path}/store.db", {"RACER_ITEMS": "4000000"}
    with racer(url, RACER_MEGABYTES="44", **many) as short:
        tell(short, "e1")
        assert short.stderr is not None and "MemoryError" in short.stderr.read()
        assert short.wait(60) == 1
    view = KitaruClient(url).executions.get("e1")
    assert (view.status, view.invocations) == ("failed", [])
    with racer(url, **many) as enough:
        tell(enough, "e1")
        assert hear(enough) == recorded(url, "e1")


@contextmanager
def relay(port: int, most: int) -> Iterator[tuple[int, threading.Event]]:
    """Listen in front of a server, pass on at most `most` bytes, and report when they were sent."""
    left, full = [most], threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((HOST, port)) as server:
                back = threading.Thread(target=copy, args=(server, self.request), daemon=True)
                back.start()
                while left[0] > 0 and (data := self.request.recv(left[0])):
                    left[0] -= len(data)
                    server.sendall(data)
                if left[0] <= 0:
                    full.set()
                    # Until the sender has ended: the rest of its data never arrives.
                    while self.request.recv(65536):
                        pass
                server.shutdown(socket.SHUT_WR)
                back.join()

    def copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)

    class Listener(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            return

    with Listener((HOST, 0), Handler) as listener:
        threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            yield listener.server_address[1], full
        finally:
            listener.shutdown()


def test_ended_while_a_value_goes_up(server: Server) -> None:
    """Fault 6: half of a value belongs to no record; the next process sends the whole value."""
    size = 2_000_000
    url, wanted = f"{server.kind.url}/goes-up", {"RACER_SIZE": str(size)}
    with (
        relay(server.port, size // 2) as (port, full),
        racer(url, **server.kind.environment(port), **wanted) as ended,
    ):
        tell(ended, "e1")
        assert full.wait(60)
        ended.terminate()
        # Its logs would be sent to the hanging store, but the process still ends.
        assert ended.wait(60) == 143
    with patch.dict(os.environ, server.environment):
        assert not [key for key in look_at(url) if "/blob/" in key or "/inv/" in key]
        with racer(url, **wanted) as successor:
            tell(successor, "e1")
            assert hear(successor) == recorded(url, "e1") == [successor.pid, "x" * size]
        assert len([key for key in look_at(url) if "/blob/" in key]) == 1


def look_at(url: str) -> list[str]:
    """Return the keys of all objects, after a check that each is complete."""
    with closing(open_store(url)) as store:
        return list(look(store))
