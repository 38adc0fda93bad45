"""Helpers for measurements: the best of several runs, and the CPU seconds of a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a process: wall and CPU seconds with its children, and its peak memory in MB."""

    wall: float
    cpu: float
    memory: float = 0.0


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report: Kitaru's figure, the figure to compare with, and the target."""

    what: str
    ours: str
    against: str
    ratio: float | None
    aim: str


def environ(path: Path | None) -> dict[str, str]:
    """This process's variables, with bytecode allowed, as in production."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return kept if path is None else {**kept, "PYTHONPATH": str(path)}


# Starts a command and prints its status and figures. On Linux, the peak of a process includes that
# of its parent, so a command is not a child of this process, which has imported all benchmarks.
_METER = """
import json, os, sys, time
out = os.open(sys.argv[1], os.O_WRONLY)
actions = [(os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, out, 2)]
started = time.perf_counter()
child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ, file_actions=actions)
_, status, used = os.wait4(child, 0)
wall, cpu = time.perf_counter() - started, used.ru_utime + used.ru_stime
print(json.dumps([os.waitstatus_to_exitcode(status), wall, cpu, used.ru_maxrss]))
"""


def cost(command: Sequence[str], *, path: Path | None = None) -> Cost:
    """Run a command once, output dropped, `path` on its import path; raise if it fails."""
    with tempfile.NamedTemporaryFile("r") as output:
        meter = [sys.executable, "-I", "-S", "-c", _METER, output.name, *command]
        done = subprocess.run(
            meter, cwd=ROOT, env=environ(path), stdout=subprocess.PIPE, text=True, check=True
        )
        code, wall, cpu, peak = json.loads(done.stdout)
        if code:
            raise SystemExit(f"{' '.join(command)} failed:\n{output.read()}")
    # Linux reports KB, macOS bytes.
    memory = peak / (1024 if sys.platform == "linux" else 1024 * 1024)
    return Cost(wall, cpu, memory)


def best(once: Callable[[], Cost], *, runs: int = 5) -> Cost:
    """The cheapest of several runs, after a first run that fills bytecode and file caches."""
    once()
    costs = [once() for _ in range(runs)]
    return Cost(min(c.wall for c in costs), min(c.cpu for c in costs), min(c.memory for c in costs))


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def table(lines: Sequence[Line]) -> str:
    """The report as a Markdown table."""
    rows = ["| what | ours | against | ratio | aim |", "|---|---|---|---|---|"]
    for line in lines:
        ratio = "" if line.ratio is None else f"{line.ratio:.2f}×"
        rows.append(f"| {line.what} | {line.ours} | {line.against} | {ratio} | {line.aim} |")
    return "\n".join(rows)
