"""Runs a flow whose disk fails from a checkpoint on, then another process; prints what came of it.

Run as a process of its own: the kernel refuses a call to a whole process, and for good.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from kitaru import checkpoint, flow
from kitaru.errors import EnvironmentFailure

STEPS = 4
_CALLS = {
    "x86_64": {"seccomp": 317, "fsync": 74, "fdatasync": 75, "pwrite64": 18},
    "aarch64": {"seccomp": 277, "fsync": 82, "fdatasync": 83, "pwrite64": 68},
}
NUMBERS = _CALLS.get(platform.machine(), {}) if sys.platform == "linux" else {}
# What a disk that is broken, and one that is full, answer to which calls.
FAILURES = {
    "a sync fails": (errno.EIO, ("fsync", "fdatasync")),
    "a write fails": (errno.EIO, ("pwrite64",)),
    "no space is left": (errno.ENOSPC, ("pwrite64",)),
}
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_NO_NEW_PRIVILEGES, _SET_FILTER, _ALL_THREADS = 38, 1, 1


def refuse(error: int, *calls: str) -> None:
    """Let the kernel answer these calls of this process with an error from now on."""
    equal = [(_EQUAL, len(calls) - at, 0, NUMBERS[call]) for at, call in enumerate(calls)]
    code = [(_LOAD, 0, 0, 0), *equal, (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE | error)]
    lines = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    program = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(code), ctypes.addressof(lines))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if libc.syscall(NUMBERS["seccomp"], _SET_FILTER, _ALL_THREADS, program):
        raise OSError(ctypes.get_errno(), "the kernel takes no filter")


failing: Callable[[int], None] = lambda number: None  # noqa: E731


@checkpoint(cache=False)
def step(number: int) -> list[object]:
    with Path("calls").open("a") as calls:
        calls.write(f"{number} ")
    failing(number)
    return [number, "x" * 3_000]


@flow(cache=False)
def chain() -> int:
    return sum(int(str(step(number)[0])) for number in range(STEPS))


def run(answer: str) -> None:
    """Run the flow, and leave in a file what came of it."""
    try:
        came = chain.options(store="sqlite:kitaru.db", exec_id="e").run().wait()
    except EnvironmentFailure as error:
        came = f"{error.exit_code}: {error.message}"
    Path(answer).write_text(json.dumps(came))


def attempt(folder: Path, name: str, at: int) -> dict[str, object]:
    """Return what came of a run whose disk fails from checkpoint `at` on, and of the next."""
    folder.mkdir()
    os.chdir(folder)

    def first() -> None:
        global failing
        error, calls = FAILURES[name]
        failing = lambda number: refuse(error, *calls) if number == at else None  # noqa: E731
        run("first")

    for work in (first, lambda: run("second")):
        child = os.fork()
        if child == 0:
            work()
            os._exit(0)
        os.waitpid(child, 0)
    calls = [int(number) for number in Path("calls").read_text().split()]
    come = {name: json.loads(Path(name).read_text()) for name in ("first", "second")}
    return {"failure": name, "at": at, "calls": calls, **come}


def main(folder: Path) -> None:
    found = [attempt(folder / f"{name}-{at}", name, at) for name in FAILURES for at in range(STEPS)]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
