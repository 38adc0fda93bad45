"""`kitaru serve` under load: the list, one execution, an answer, and viewers of one execution.

The service and the floor are processes of their own. The floor is an application of the same
library on the same server that returns a small constant document. This process sends the requests
over connections that stay open, a few at a time, and shares the processors with the service. The
store is a SQLite file, in memory if possible.

    python3 dev.py bench service
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from common import Line
from large import KITARU, MEMORY

import kitaru

SIZES = (1_000, 10_000)
CONNECTIONS = 4
REQUESTS = 1_000
ANSWERS = 200
VIEWERS = (100, 1_000)
# For a machine that is busy; nothing takes so long.
PATIENCE = 120.0

FLOOR = """
import uvicorn
from fastapi import FastAPI

app = FastAPI()

@app.get("/")
@app.post("/")
def constant() -> dict[str, bool]:
    return {"ok": True}

class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print(f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}", flush=True)

Server(uvicorn.Config(app, port=0, log_level="error", access_log=False)).run()
"""


@kitaru.checkpoint
def draft(topic: str) -> str:
    return f"a letter about {topic}"


@kitaru.flow
def letter(topic: str, ask: bool) -> str:
    """Draft a letter; ask whether to send it, or not."""
    text = draft(topic)
    if ask:
        kitaru.wait(name="ok", question=f"Send it? {topic}", schema=bool)
    return text


def fill(url: str, count: int) -> list[str]:
    """Run executions in a process of their own; return the ids of those that wait."""
    command = [sys.executable, str(Path(__file__)), url, str(count)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = kitaru.KitaruClient(url)
    page = client.executions.page(status="waiting", limit=ANSWERS)
    return [one.exec_id for one in page.items]


def run(url: str, count: int) -> None:
    """Run executions, the last ones of which wait for an answer."""
    for number in range(count):
        letter.options(store=url).run(f"topic {number}", number >= count - ANSWERS).settle()


@contextmanager
def started(command: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Start a server; yield its address, which is in its first lines, and its process."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        seen = ""
        for line in process.stdout:
            seen += line
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                # A server whose output nobody reads would stop at some time.
                threading.Thread(target=process.stdout.read, daemon=True).start()
                yield found[0], process.pid
                return
        raise SystemExit(f"{command[0]} did not start:\n{seen}")
    finally:
        process.terminate()
        process.wait()


class Timed:
    """The seconds that each of some requests took, and all of them together."""

    def __init__(self, url: str, requests: Sequence[tuple[str, str, str]]) -> None:
        """`requests` are method, path and body."""
        begun = time.perf_counter()
        parts = [requests[at::CONNECTIONS] for at in range(CONNECTIONS)]
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            found = list(pool.map(lambda part: _send(url, part), parts))
        self.per_second = len(requests) / (time.perf_counter() - begun)
        self.seconds = sorted(one for part in found for one in part)

    def at(self, share: float) -> float:
        """Return the time that a share of the requests did not exceed."""
        return self.seconds[min(len(self.seconds) - 1, int(share * len(self.seconds)))]

    def __str__(self) -> str:
        p50, p99 = (self.at(share) * 1000 for share in (0.5, 0.99))
        return f"{self.per_second:,.0f}/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms"


def _send(url: str, requests: Sequence[tuple[str, str, str]]) -> list[float]:
    found = []
    connection = HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    for method, path, body in requests:
        headers = {"content-type": "application/json"} if body else {}
        begun = time.perf_counter()
        connection.request(method, path, body or None, headers)
        response = connection.getresponse()
        data = response.read()
        found.append(time.perf_counter() - begun)
        if response.status >= 400:
            raise SystemExit(f"{method} {path}: {response.status} {data[:300]!r}")
    connection.close()
    return found


def _get(path: str) -> list[tuple[str, str, str]]:
    return [("GET", path, "")]


def viewers(url: str, exec_id: str, count: int) -> tuple[float, float]:
    """Open live streams of an execution, answer its question, and return when p50 and all know."""
    place = urlsplit(url)
    assert place.hostname is not None and place.port is not None
    path = f"/api/v1/executions/{exec_id}/events"
    waiting = selectors.DefaultSelector()
    streams = []
    for _ in range(count):
        stream = socket.create_connection((place.hostname, place.port), timeout=PATIENCE)
        stream.sendall(f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
        waiting.register(stream, selectors.EVENT_READ)
        streams.append(stream)
    # Each has the state so far, and nothing more comes until the answer.
    _read_each(waiting, streams, b'"waiting"')
    begun = time.perf_counter()
    _send(url, [("POST", f"/api/v1/executions/{exec_id}/waits/ok/answer", '{"value": true}')])
    moments = _read_each(waiting, streams, b'"answered"')
    for stream in streams:
        stream.close()
    return moments[count // 2] - begun, moments[-1] - begun


def _read_each(
    waiting: selectors.BaseSelector, streams: Sequence[socket.socket], word: bytes
) -> list[float]:
    """Read until each stream has sent a word; return when each of them had."""
    seen = dict.fromkeys(streams, b"")
    moments: list[float] = []
    deadline = time.perf_counter() + PATIENCE
    while len(moments) < len(streams):
        for key, _ in waiting.select(1.0):
            stream: Any = key.fileobj
            data = stream.recv(65536)
            if not data:
                raise SystemExit("The service closed a stream.")
            before, seen[stream] = seen[stream], seen[stream] + data
            if word in seen[stream] and word not in before:
                moments.append(time.perf_counter())
        if time.perf_counter() > deadline:
            raise SystemExit(f"{len(streams) - len(moments)} streams did not send {word!r}.")
    return moments


def peak_mb(process: int) -> float:
    """Return the largest resident memory of a process so far."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def against(floor: Timed, what: str, found: Timed, aim: str = "") -> Line:
    """Return a line; the ratio is that of the requests per second."""
    return Line(what, str(found), f"constant document {floor}",
                floor.per_second / found.per_second, aim)  # fmt: skip


def lines(sizes: Sequence[int] = SIZES) -> Iterator[Line]:
    """Yield the figures for stores of several sizes."""
    for count in sizes:
        with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
            url = f"sqlite:{Path(folder) / 'kitaru.db'}"
            yield from _of(url, count, fill(url, count))


def _of(url: str, count: int, waiting: list[str]) -> Iterator[Line]:
    with (
        started([sys.executable, "-c", FLOOR]) as (floor_url, _),
        started([KITARU, "serve", "--store", url, "--port", "0"]) as (service, process),
    ):
        for warm in ("/api/v1/executions", f"/api/v1/executions/{waiting[0]}", "/executions"):
            _send(service, _get(warm) * 20)
        bare = Timed(floor_url, _get("/") * REQUESTS)
        stored = f"{count:,} executions"
        page = "/api/v1/executions?limit=50"
        yield against(bare, f"list 50 of {stored}", Timed(service, _get(page) * REQUESTS),
                      "p99 ≤ 50 ms")  # fmt: skip
        yield against(bare, f"the page of the list, {stored}",
                      Timed(service, _get("/executions") * (REQUESTS // 4)))  # fmt: skip
        each = [f"/api/v1/executions/{one}" for one in waiting]
        one = [("GET", path, "") for path in each] * (REQUESTS // len(each))
        yield against(bare, f"one execution, {stored}", Timed(service, one))
        body = json.dumps({"value": True})
        given = [("POST", f"{path}/waits/ok/answer", body) for path in each[len(VIEWERS) :]]
        posted = Timed(floor_url, [("POST", "/", body)] * len(given))
        yield against(posted, f"an answer, {stored}", Timed(service, given))
        for exec_id, number in zip(waiting, VIEWERS, strict=False):
            half, all_of_them = viewers(service, exec_id, number)
            yield Line(f"an answer is on {number:,} screens, {stored}",
                       f"half after {half:.2f} s, all after {all_of_them:.2f} s", "", None,
                       "≤ 1 s")  # fmt: skip
        yield Line(f"peak memory of the service, {stored}", f"{peak_mb(process):.0f} MB", "", None,
                   "≤ 150 MB")  # fmt: skip


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]))
