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
    "peers": peers,
}


def main(chosen: list[str]) -> None:
    lines = [line for name in chosen or PARTS for line in PARTS[name].lines()]
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    sys.stdout.write(f"{machine}, SQLite {sqlite3.sqlite_version}\n\n{table(lines)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
