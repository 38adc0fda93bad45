"""Cost of a store: listing 100,000 executions, 100,000 checkpoints, a distant bucket."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from checkpoints import SCRATCH, check
from common import ROOT, Line, seconds

import kitaru
from kitaru.runtime.executions.listing import list_executions, page_of
from kitaru.runtime.executions.where import Where
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.stores import Store, open_store
from kitaru.stores.sqlite import SqliteStore
from kitaru.stores.sqlite_file import WITNESS
from kitaru.wire import keys
from kitaru.wire.records import StateRecord, Status
from kitaru.wire.times import uninvert
from tests.stores.servers.proxy import Proxy, proxied
from tests.stores.servers.real import serving

EXECUTIONS = 100_000
GROWTH = (1_000, 10_000, 100_000)
# Latency that a proxy adds to every request. The server's own time is negligible in comparison.
DELAY = 0.1
FEW, MANY = 2, 22
SAFEGUARDS = ("looking at the files", "a second index")
TURNS, COMMITS = 30, 50


@kitaru.checkpoint
def step(number: int) -> int:
    return number + 1


@kitaru.checkpoint
def other(number: int) -> int:
    return number


@kitaru.flow
def chain(start: int, count: int) -> int:
    number = start
    for _ in range(count // 2):
        number = other(step(number))
    return number


def fill(store: Store, count: int) -> None:
    """Add `count` executions to a store, as a list sees them: every 10th is still running."""
    record_store = RecordStore(store)
    for start in range(0, count, 2_000):
        made = [one for n in range(start, start + 2_000) for one in _listed(record_store, n)]
        store.create_all(made)


def _listed(record_store: RecordStore, number: int) -> Iterator[tuple[str, bytes]]:
    exec_id, flow = f"e{number:06d}", "rare" if number == 0 else "review"
    at = uninvert(f"{10**16 - 1 - 1_760_000_000_000_000 - number:016d}")
    statuses: list[Status] = ["running"] if number % 10 == 0 else ["running", "completed"]
    for position, status in enumerate(statuses, 1):
        place = keys.state(exec_id, position)
        yield place, record_store.encode(place, StateRecord(position, status, at))
        yield keys.index(at, exec_id, position, status, flow), b""


def listing() -> Iterator[Line]:
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        store = open_store(f"sqlite:{folder}/kitaru.db")
        fill(store, EXECUTIONS)
        ways: dict[str, Callable[[], object]] = {
            "the first page": lambda: list_executions(store),
            "the first page of a status": lambda: list_executions(store, status="running"),
            "one flow among the newest 10,000, none found": lambda: page_of(
                store, Where(flow="rare"), limit=20, within=10_000
            ),
            "one flow, found last": lambda: list_executions(store, flow="rare"),
        }
        for what, way in ways.items():
            took = min(seconds(way) for _ in range(3))
            aim = "≤ 0.3 s" if what == "the first page" else ""
            yield Line(f"{EXECUTIONS:,} executions: {what}", f"{took:.4f} s", "", None, aim)
        store.close()


GROWING = """
import json, sys, time
sys.path[:0] = [{here!r}]
from checkpoints import chain
before = time.process_time()
chain.options(store={url!r}).run({count}).wait()
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([time.process_time() - before, int(peak.split()[1]) / 1024]))
"""


def growth() -> Iterator[Line]:
    """Run each listing in a separate process; the kernel reports its peak memory.

    The file is in memory if possible. Another benchmark measures the disk.
    """
    fast = Path("/dev/shm")
    scratch = fast if fast.is_dir() else SCRATCH
    first = 0.0
    for count in GROWTH:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            url = f"sqlite:{folder}/kitaru.db"
            program = GROWING.format(here=str(Path(__file__).parent), url=url, count=count)
            command = [sys.executable, "-c", program]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            cpu, memory = json.loads(done.stdout)
            size = sum(path.stat().st_size for path in Path(folder).iterdir())
        each = cpu / count * 1000
        first = first or each
        yield Line(
            f"an execution of {count:,} checkpoints",
            f"{each:.3f} ms CPU and {size / count:,.0f} bytes each, {memory:.0f} MB at most",
            f"each of {GROWTH[0]:,}: {first:.3f} ms CPU",
            each / first,
            "linear, ≤ 40 MB",
        )


def safeguards() -> Iterator[Line]:
    """Measure the cost of the file checks of a commit, and of the second index.

    The same store without each of them takes turns with it, on the same disk.
    """
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        stores = {name: SqliteStore(Path(folder) / f"{name}.db") for name in ("all", *SAFEGUARDS)}
        blind: Any = stores["looking at the files"]._watch
        blind.look = blind.look_at_log = lambda: None
        stores["a second index"]._writer.execute(f"DROP INDEX {WITNESS}")
        value = os.urandom(600).hex().encode()
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in stores}
        for turn in range(TURNS):
            for name, store in stores.items():
                clock, cpu = time.perf_counter(), time.process_time()
                for number in range(COMMITS):
                    store.create(f"x/e/inv/step_{turn * COMMITS + number}", value)
                took[name].append((time.perf_counter() - clock, time.process_time() - cpu))
        for store in stores.values():
            store.close()
    means = {
        name: [median(each) / COMMITS * 1e6 for each in zip(*t, strict=True)]
        for name, t in took.items()
    }
    wall, cpu = means["all"]
    for name in SAFEGUARDS:
        yield Line(
            f"a commit in SQLite, with {name}",
            f"{wall:,.0f} µs, {cpu:.0f} µs CPU",
            f"without: {means[name][0]:,.0f} µs, {means[name][1]:.0f} µs CPU",
            wall / means[name][0],
            "≤ 1.05×",
        )


def packed() -> Iterator[Line]:
    """Read records from a real server on loopback, SeaweedFS, in segments and without."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(serving("seaweedfs", folder))
        stack.enter_context(patch.dict(os.environ, server.environment))
        store = open_store(f"{server.kind.url}/benchmark")
        for count in (100, 1_000):
            handle = chain.options(store=store, cache=False).run(0, count)
            handle.wait()
            read = Journal.open(store, handle.exec_id).invocations
            together = min(seconds(read) for _ in range(5))
            store.delete(*store.list(keys.segments(handle.exec_id)))
            apart = min(seconds(read) for _ in range(5))
            yield Line(
                f"reading {count:,} records in segments, SeaweedFS",
                f"{together * 1000:.0f} ms",
                f"64 requests at a time {apart * 1000:.0f} ms",
                together / apart,
                "",
            )
        store.close()


def distant() -> Iterator[Line]:
    """A bucket behind a proxy that delays every request: moto, on loopback."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        proxy = stack.enter_context(proxied(stack.enter_context(serving("moto", folder))))
        stack.enter_context(patch.dict(os.environ, proxy.environment))
        store = open_store(f"{proxy.url}/benchmark")
        yield from _round_trips(store, proxy)
        store.close()


def _round_trips(store: Store, proxy: Proxy) -> Iterator[Line]:
    runner, starts = chain.options(store=store), itertools.count(step=1_000)

    def fresh(count: int) -> None:
        start = next(starts)
        check(runner.run(start, count).wait(), start + count // 2)

    def again(ended: bool) -> None:
        (newest,) = list_executions(store, limit=1)
        if not ended:
            store.delete(keys.end(newest["exec_id"]))
        chain.resume(newest["exec_id"], store=store).wait()

    fresh(2)
    few, many = (_trips(proxy, lambda n=n: fresh(n)) for n in (FEW, MANY))  # type: ignore[misc]
    yield _line("a checkpoint in a bucket", (many - few) / (MANY - FEW), "≤ 1.2")
    looked = _trips(proxy, lambda: list_executions(store, limit=1))
    ended = _trips(proxy, lambda: again(ended=True)) - looked
    yield _line(f"the result of an execution of {MANY}", ended, "")
    rest = _trips(proxy, lambda: again(ended=False)) - looked - 1
    yield _line(f"a resume after {MANY} checkpoints, to the end", rest, "")


def _trips(proxy: Proxy, work: Callable[[], object]) -> float:
    """Return the number of requests that `work` waits for, computed from an added delay."""
    proxy.delay = 0
    without = min(seconds(work) for _ in range(3))
    proxy.delay = DELAY
    return (min(seconds(work) for _ in range(2)) - without) / DELAY


def _line(what: str, trips: float, aim: str) -> Line:
    delayed = f"each request takes {DELAY * 1000:.0f} ms longer"
    return Line(what, f"{trips:.2f} round trips", delayed, None, aim)


def lines() -> list[Line]:
    SCRATCH.mkdir(parents=True, exist_ok=True)
    return [*safeguards(), *listing(), *growth(), *packed(), *distant()]
