"""The report: every figure as a ratio, measured in one run of `python3 dev.py bench`."""

from __future__ import annotations

import platform
import sqlite3
import sys

import checkpoints
import compiling
import large
import peers
import processes
import scale
import service
import sizes
import state
import stores
from common import table

PARTS = {
    "checkpoints": checkpoints,
    "large": large,
    "processes": processes,
    "scale": scale,
    "service": service,
    "compiling": compiling,
    "sizes": sizes,
    "state": state,
    "stores": stores,
}


def main(chosen: list[str]) -> None:
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    say(f"{machine}, SQLite {sqlite3.sqlite_version}")
    for name in chosen:
        say(peers.report() if name == "peers" else table(list(PARTS[name].lines())))


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
