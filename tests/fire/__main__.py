"""`python -m tests.fire`: run all faults and kills. A test run uses some of them.

python -m tests.fire model                          the journal, explored further
python -m tests.fire faults [--stores …]            faults × stores
python -m tests.fire kills [--stores …] [--each N]  kill -9 at each Nth store operation × stores
python -m tests.fire soak [--stores …] [--seconds N] [--seed N]  kill -9 at random moments × stores

A failure is printed with the command that repeats it alone: `--only …`.
"""

from __future__ import annotations

import argparse
import itertools
import os
import secrets
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import format_exception
from unittest.mock import patch

from kitaru.stores import Store, open_store
from kitaru.stores.memory import MemoryStore
from tests.step.build import end_zygote
from tests.stores.servers.real import serving

from . import wire
from .faults import FAULTS, Far, FaultyStore, Kinds, Schedule, Way, random_schedule, single_faults
from .flows import USES
from .kills import Place, kill_all, moments
from .model import SCENARIOS
from .soak import soak

LOCAL = ["memory", "far", "sqlite"]
BUCKETS = ["moto", "seaweedfs", "azurite", "fake-gcs"]
Look = Callable[[str], Store]


def model(asked: argparse.Namespace) -> None:
    say("processes", "faults", "crashes", "states", "transitions", "contents of the store", "s")
    for name, scenario in SCENARIOS.items():
        for budget in (*scenario.budgets, *scenario.whole):
            started = time.monotonic()
            found = scenario.explore(budget)
            counted = found.states, found.transitions, len(found.stores)
            say(name, *budget, *counted, round(time.monotonic() - started))


def faults(asked: argparse.Namespace) -> None:
    say("store", "schedules", "faults met", "violations", "s")
    for name in asked.stores:
        with tempfile.TemporaryDirectory() as folder, place(name, Path(folder)) as (look, way):
            try_all(name, look, way, asked)


def try_all(name: str, look: Look, way: Way, asked: argparse.Namespace) -> None:
    kinds = FAULTS if name in LOCAL else wire.WIRE_FAULTS
    met, started, schedules, broken = Counter[str](), time.monotonic(), 0, 0
    for schedule in schedules_of(look, way, kinds, asked):
        store = look(secrets.token_hex(4))
        schedules += 1
        try:
            met.update(schedule.run(store, way).met)
        except Exception as error:
            broken += 1
            failed("faults", name, str(schedule), "".join(format_exception(error)))
        finally:
            store.delete(*store.list(""))
            store.close()
    say(name, schedules, met.total(), broken, round(time.monotonic() - started))
    say("", *(f"{fault}: {count}" for fault, count in sorted(met.items())))


def schedules_of(
    look: Look, way: Way, kinds: Kinds, asked: argparse.Namespace
) -> Iterator[Schedule]:
    """Yield the requested schedules: each single fault, then the number of random schedules."""
    if asked.only:
        yield from map(Schedule.parse, asked.only)
        return
    for use in USES:
        alone = single_faults(use, look(secrets.token_hex(4)), way, kinds)
        yield from itertools.islice(alone, 0, None, asked.each)
    for seed in range(asked.random):
        yield random_schedule(seed, kinds)


def failed(what: str, store: str, only: str, why: str) -> None:
    """Print a failure, and the command that repeats it."""
    command = f"python -m tests.fire {what} --stores {store} --only {shlex.quote(only)}"
    sys.stderr.write(f"{why}\n    {command}\n")


@contextmanager
def place(name: str, folder: Path) -> Iterator[tuple[Look, Way]]:
    """Yield a function that opens a new store of this kind, and the access of processes to it."""
    if name == "memory":
        yield lambda label: MemoryStore(f"memory:{label}"), FaultyStore
    elif name == "far":
        yield lambda label: Far(f"memory:{label}"), FaultyStore
    elif name == "sqlite":
        yield lambda label: open_store(f"sqlite:{folder}/{label}.db"), FaultyStore
    else:
        with serving(name, folder) as server, wire.bucket(server) as found:
            yield found


def kills(asked: argparse.Namespace) -> None:
    say("store", "killed", "completed", "lost", "records changed", "called again", "problems", "s")
    for name in asked.stores:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder, where(name, Path(folder)) as found:
            only = [one.split(":") for one in asked.only]
            chosen = ((moment, int(at)) for moment, at in only)
            tally = kill_all(found, chosen if only else moments(each=asked.each))
        end_zygote()
        counted = tally.kills, tally.completed, tally.lost, tally.changed, tally.called_again
        say(name, *counted, len(tally.problems), round(time.monotonic() - started))
        for at, problem in tally.problems:
            failed("kills", name, at, problem)


def soaks(asked: argparse.Namespace) -> None:
    say("store", "killed", "completed", "lost", "records changed", "called again", "problems", "s")
    for name in asked.stores:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder, where(name, Path(folder)) as found:
            tally = soak(found, asked.seconds, asked.seed)
        counted = tally.kills, tally.completed, tally.lost, tally.changed, tally.called_again
        say(name, *counted, len(tally.problems), round(time.monotonic() - started))
        for at, problem in tally.problems:
            sys.stderr.write(f"{name} {at} --seed {asked.seed}: {problem}\n")


@contextmanager
def where(name: str, folder: Path) -> Iterator[Place]:
    if name == "sqlite":
        yield Place(folder, f"sqlite:{folder}/{{}}.db")
        return
    (folder / "server").mkdir()
    with (
        serving(name, folder / "server") as server,
        wire.untouched(server) as (url, environment),
        patch.dict(os.environ, environment),
    ):
        yield Place(folder, f"{url}/{{}}", environment)


def say(*cells: object) -> None:
    sys.stdout.write(f"| {' | '.join(map(str, cells))} |\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.fire")
    parser.add_argument("what", choices=["model", "faults", "kills", "soak"])
    parser.add_argument("--stores", nargs="+", choices=[*LOCAL, *BUCKETS])
    parser.add_argument("--each", type=int, default=1, help="only each so many-th fault or kill")
    parser.add_argument("--random", type=int, default=1000, help="so many schedules by chance")
    parser.add_argument("--only", nargs="+", default=[], help="only these schedules, or kills")
    parser.add_argument("--seconds", type=float, default=600, help="of a soak, for each store")
    parser.add_argument("--seed", type=int, default=1, help="of a soak")
    asked = parser.parse_args()
    asked.stores = asked.stores or [*(LOCAL if asked.what == "faults" else LOCAL[2:]), *BUCKETS]
    {"model": model, "faults": faults, "kills": kills, "soak": soaks}[asked.what](asked)


if __name__ == "__main__":
    main()
