"""Runs a flow while its files may not grow beyond a size, then with space again; prints what came.

Run as a process of its own, because the limit is the whole process's: `python -m … FOLDER`.
"""

from __future__ import annotations

import json
import resource
import sys
from collections import Counter
from pathlib import Path

from kitaru import checkpoint, flow
from kitaru.errors import EnvironmentFailure, NotFound
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store

STEPS = 12
# From less than an empty store takes to more than the whole execution does.
LIMITS = (1_000, *range(31_000, 141_000, 10_000))

calls: Counter[int] = Counter()


@checkpoint(cache=False)
def step(number: int) -> list[object]:
    calls[number] += 1
    return [number, calls[number], "x" * 3_000]


@flow(cache=False)
def chain() -> list[list[object]]:
    return [step(number)[:2] for number in range(STEPS)]


def limit(size: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))


def run(url: str) -> list[list[object]]:
    return chain.options(store=url, exec_id="e").run().wait()


def recorded(url: str) -> int:
    store = open_store(url)
    try:
        return len(Journal.open(store, "e").invocations())
    except NotFound:
        return 0
    finally:
        store.close()


def attempt(url: str, size: int) -> dict[str, object]:
    """Return how often the disk was full, what was recorded by then, and what followed."""
    calls.clear()
    full = ""
    limit(size)
    try:
        run(url)
    except EnvironmentFailure as error:
        full = error.message
    finally:
        limit(resource.RLIM_INFINITY)
    held = recorded(url)
    result = run(url)
    return {"full": full, "held": held, "result": result, "calls": sum(calls.values())}


def main(folder: str) -> None:
    found = [attempt(f"sqlite:{Path(folder) / str(size)}.db", size) for size in LIMITS]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
