"""Measure the memory that is needed to record a large value, and to read it.

    python -m benchmarks.large_values [--megabytes 200]

Each case runs in a separate process, on SQLite and Linux. The table shows the peak resident size
above that of the same process with a value of 1 MB, as a multiple of the value's size. 1.0 is the
value itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kitaru.runtime import codec
from kitaru.runtime.journal import blobs
from kitaru.stores import open_store
from kitaru.wire.records import StoredValue
from kitaru.wire.structs import fields_of

MEGABYTE = 1_000_000


def numbers(size: int) -> Any:
    import numpy

    return numpy.arange(size // 8, dtype="i8")


def frame(size: int) -> Any:
    import numpy
    import pandas  # type: ignore[import-untyped]

    column = size // 8 // 8
    return pandas.DataFrame({f"c{at}": numpy.arange(column) + at for at in range(8)})


KINDS: dict[str, Callable[[int], Any]] = {
    "bytes": os.urandom,
    "bytearray": lambda size: bytearray(os.urandom(size)),
    "text": lambda size: os.urandom(size // 2).hex(),
    "list of 1 MB bytes": lambda size: [os.urandom(MEGABYTE) for _ in range(size // MEGABYTE)],
    "numpy array": numbers,
    "pandas frame": frame,
}
IMPORTED = {"numpy array": "numpy", "pandas frame": "pandas"}


def peak() -> int:
    """Return the peak resident size since `forget`, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def forget() -> None:
    """Reset the peak: creating a value may take more memory than recording it."""
    Path("/proc/self/clear_refs").write_text("5")


def write(kind: str, size: int, folder: Path) -> None:
    """Record a value, and note its place."""
    value = KINDS[kind](size)
    forget()
    store = open_store(f"sqlite:{folder}/")
    stored = blobs.keep(store, "x/e/", value, "result")
    (folder / "stored.json").write_text(json.dumps(fields_of(stored)))


def read(kind: str, size: int, folder: Path) -> None:
    """Read the recorded value."""
    stored = StoredValue(**json.loads((folder / "stored.json").read_text()))
    store = open_store(f"sqlite:{folder}/")
    codec.decode(blobs.load_value(store, "x/e/", stored))


def measured(mode: str, kind: str, size: int, folder: Path) -> int:
    """Return the peak of a process that runs `mode`."""
    command = [sys.executable, "-m", "benchmarks.large_values", "--one", mode, kind, str(folder)]
    command += ["--bytes", str(size)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def one(mode: str, kind: str, folder: Path, size: int) -> None:
    """Run `mode` in this process and print its peak."""
    if kind in IMPORTED:
        __import__(IMPORTED[kind])
    {"write": write, "read": read}[mode](kind, size, folder)
    sys.stdout.write(f"{peak()}\n")


def main() -> None:
    """Measure every kind and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--one", nargs=3)
    parser.add_argument("--bytes", type=int)
    given = parser.parse_args()
    if given.one:
        mode, kind, folder = given.one
        one(mode, kind, Path(folder), given.bytes)
        return
    size = given.megabytes * MEGABYTE
    sys.stdout.write(f"| {given.megabytes} MB | recording | reading |\n|---|---|---|\n")
    for kind in KINDS:
        peaks = []
        with tempfile.TemporaryDirectory() as folder:
            for mode in ("write", "read"):
                with tempfile.TemporaryDirectory() as empty:
                    measured("write", kind, MEGABYTE, Path(empty))
                    floor = measured(mode, kind, MEGABYTE, Path(empty))
                peaks.append((measured(mode, kind, size, Path(folder)) - floor) / size)
        sys.stdout.write(f"| {kind} | {peaks[0]:.1f} | {peaks[1]:.1f} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
