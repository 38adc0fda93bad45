"""One of several processes that run the same executions concurrently: URL.

For each line of input, it runs the execution of that id and prints the result.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

from kitaru import checkpoint, flow
from kitaru.wire import times
from tests.waiting import wait_for_file, wait_until

started = threading.Event()


@checkpoint(cache=False)
def mine(exec_id: str) -> list[object]:
    meet(os.environ.get("RACER_MEETS"), exec_id)
    wait_at(os.environ.get("RACER_GATE"))
    size = int(os.environ.get("RACER_SIZE", "10"))
    if limit := os.environ.get("RACER_MEGABYTES"):
        # The threads of a run need memory, too. They have it by now.
        started.wait()
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + int(limit) * 2**20, resource.RLIM_INFINITY))
    # A list is recorded in one piece, a string in chunks.
    items = ["x"] * int(os.environ.get("RACER_ITEMS", "0"))
    return [os.getpid(), "x" * size, *items]


def meet(folder: str | None, exec_id: str) -> None:
    """Wait until two processes have reached this point for the same execution."""
    if folder is not None:
        Path(folder, f"{exec_id}.{os.getpid()}").touch()
        wait_until(lambda: len(list(Path(folder).glob(f"{exec_id}.*"))) >= 2)


def wait_at(gate: str | None) -> None:
    """Report that this process is ready, and wait until the gate is open."""
    if gate is not None:
        Path(gate, "called").touch()
        wait_for_file(Path(gate, "open"))


@flow
def race(exec_id: str) -> list[object]:
    return mine(exec_id)


class Elsewhen(datetime):
    """Clocks that are wrong by some years."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Elsewhen:
        years = int(os.environ.get("RACER_YEARS", "0"))
        return super().now(tz) + timedelta(days=365 * years)


if __name__ == "__main__":
    times.datetime = Elsewhen  # type: ignore[attr-defined]
    url = sys.argv[1]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        handle = race.options(store=url, exec_id=line.strip()).run(line.strip())
        started.set()
        sys.stdout.write(json.dumps(handle.wait()) + "\n")
        sys.stdout.flush()
