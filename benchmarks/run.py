"""Decides the report: every figure as a ratio taken in one run; `python3 dev.py bench` calls it."""

from __future__ import annotations

import platform
import sqlite3
import sys

import checkpoints
import compiling
import peers
import processes
import sizes
import stores
from common import table

PARTS = {
    "checkpoints": checkpoints,
    "processes": processes,
    "compiling": compiling,
    "sizes": sizes,
    "stores": stores,
}


def main(chosen: list[str]) -> None:
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    say(f"{machine}, SQLite {sqlite3.sqlite_version}")
    if lines := [line for name in chosen if name in PARTS for line in PARTS[name].lines()]:
        say(table(lines))
    if "peers" in chosen:
        say(peers.report())


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
