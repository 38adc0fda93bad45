"""One of several processes that run the same executions at the same time: URL COUNT.

For each line it reads it runs the execution of that id, and says what came of it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

from kitaru import checkpoint, flow
from kitaru.wire import times


@checkpoint(cache=False)
def mine(owner: str) -> list[object]:
    called, gate = os.environ.get("RACER_CALLED"), os.environ.get("RACER_GATE")
    if called and gate:
        Path(called).touch()
        while not Path(gate).exists():
            time.sleep(0.01)
    return [os.getpid(), owner * 10]


@flow
def race() -> list[object]:
    return mine("x")


class Elsewhen(datetime):
    """Clocks that go wrong by some years."""

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
        result = race.options(store=url, exec_id=line.strip()).run().wait()
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
