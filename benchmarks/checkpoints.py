"""Cost of a durable checkpoint: a local run against bare fsynced SQLite commits.

The baseline is one autocommit insert of a record of the same size into a table of the same shape,
on the same disk, in the same process. The two take turns, so that disk load affects both equally.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common import ROOT, Line, seconds

import kitaru
from kitaru.stores import open_store
from kitaru.wire import keys

# On the disk of the repository: a temporary directory may be in memory, where a sync is free.
SCRATCH = ROOT / "build" / "benchmarks"
RECORD_BYTES = 1_200
TURNS = 5


@kitaru.checkpoint(cache=False)
def step(number: int) -> int:
    return number + 1


@kitaru.flow(cache=False)
def chain(count: int) -> int:
    number = 0
    for _ in range(count):
        number = step(number)
    return number


def journal(count: int) -> Callable[[], float]:
    """Time `count` checkpoints, minus the time of a run without checkpoints."""

    def once() -> float:
        with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
            runner = chain.options(store=f"sqlite:{folder}/kitaru.db")
            runner.run(0).wait()
            without = seconds(lambda: check(runner.run(0).wait(), 0))
            return seconds(lambda: check(runner.run(count).wait(), count)) - without

    return once


def check(got: object, expected: int) -> None:
    if got != expected:
        raise SystemExit(f"the flow returned {got!r} instead of {expected}")


def floor(count: int) -> Callable[[], float]:
    def once() -> float:
        with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
            connection = sqlite3.connect(Path(folder) / "floor.db", isolation_level=None)
            connection.execute("PRAGMA page_size=1024")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("CREATE TABLE object (key TEXT PRIMARY KEY, value BLOB)")
            took = seconds(lambda: insert(connection, count))
            connection.close()
            return took

    return once


def insert(connection: sqlite3.Connection, count: int) -> None:
    value = b"x" * RECORD_BYTES
    for number in range(count):
        key = f"x/01-benchmark/inv/step_{number}"
        connection.execute("INSERT INTO object VALUES (?, ?)", (key, value))


def measure(count: int) -> Line:
    SCRATCH.mkdir(parents=True, exist_ok=True)
    ours, bare = journal(count), floor(count)
    turns = [(ours(), bare()) for _ in range(TURNS)]
    mine = min(t[0] for t in turns) / count
    sqlite = min(t[1] for t in turns) / count
    return Line(
        what=f"a local durable checkpoint, {count:,} of them",
        ours=f"{mine * 1000:.3f} ms",
        against=f"SQLite commit with fsync {sqlite * 1000:.3f} ms",
        ratio=mine / sqlite,
        aim="≤ 3×, ≤ 0.5 ms",
    )


def going_on(count: int) -> Line:
    """Measure the CPU time of a resume in a warm process, with all steps recorded."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        store = open_store(f"sqlite:{folder}/kitaru.db")
        handle = chain.options(store=store).run(count)
        check(handle.wait(), count)

        def again() -> float:
            store.delete(keys.end(handle.exec_id))
            before = time.process_time()
            check(chain.resume(handle.exec_id, store=store).wait(), count)
            return time.process_time() - before

        took = min(again() for _ in range(10))
        store.close()
    return Line(
        what=f"resume with {count:,} recorded checkpoints, warm",
        ours=f"{took * 1000:.1f} ms CPU",
        against="",
        ratio=None,
        aim="≤ 10 ms",
    )


def lines() -> list[Line]:
    return [measure(100), measure(1_000), going_on(100)]
