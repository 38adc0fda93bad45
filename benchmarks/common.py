"""Helpers for measurements: the best of several runs, the CPU seconds of a process."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took: wall and CPU seconds, children included."""

    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report: ours, what it is held against, and the aim."""

    what: str
    ours: str
    against: str
    ratio: float | None
    aim: str


def environ(path: Path | None) -> dict[str, str]:
    """This process's variables, with bytecode allowed, as in real life."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return kept if path is None else {**kept, "PYTHONPATH": str(path)}


def cost(command: Sequence[str], *, path: Path | None = None) -> Cost:
    """Run a command once, output dropped, `path` on its import path; raise when it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, env=environ(path), capture_output=True, text=True, check=False
    )
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall, cpu)


def best(once: Callable[[], Cost], *, runs: int = 5) -> Cost:
    """The cheapest of several runs, after one that fills the caches (bytecode, file system)."""
    once()
    costs = [once() for _ in range(runs)]
    return Cost(min(c.wall for c in costs), min(c.cpu for c in costs))


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
