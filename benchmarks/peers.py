"""Cost of durability in other engines: the same chain of trivial steps on each.

Each engine runs in a separate environment, which `python3 dev.py bench peers` creates. The engines
take turns on the same disk. They differ in what they record before they continue. The programs
document their settings.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from common import ROOT, best, cost, environ

ENVS = ROOT / ".envs"
HERE = Path(__file__).resolve().parent / "engines"
SCRATCH = ROOT / "build" / "peers"
SERVER = ENVS / "restate" / "node_modules/@restatedev/restate-server-linux-x64/bin/restate-server"
# Repetitions by number of steps. A single run takes minutes, mostly for Prefect's server.
RUNS = {100: 1, 1_000: 1}
# The largest number of steps that does not take minutes.
MOST = {"Prefect": 100, "Temporal, activities": 100}
# Seconds for one phase. An engine that fails or takes longer is reported as failed.
PATIENCE = 120
OURS = "kitaru"


@dataclass(frozen=True, slots=True)
class Engine:
    """A measured engine: `module` is imported by its program.

    `name` is the name of its environment, `title` its name in the table.
    """

    name: str
    title: str
    program: str
    module: str
    arguments: tuple[str, ...] = ()

    def python(self) -> str:
        return sys.executable if self.name == OURS else str(ENVS / self.name / "bin" / "python")


LANGGRAPH = "langgraph.func, langgraph.checkpoint.sqlite"
ENGINES = (
    Engine(OURS, "Kitaru, SQLite", "on_kitaru.py", "kitaru"),
    Engine("langgraph", "LangGraph, SqliteSaver", "on_langgraph.py", LANGGRAPH),
    Engine("dbos", "DBOS, SQLite", "on_dbos.py", "dbos"),
    Engine("restate", "Restate", "on_restate.py", "restate"),
    Engine(
        "temporal", "Temporal, local activities", "on_temporal.py", "temporalio.worker", ("local",)
    ),
    Engine("temporal", "Temporal, activities", "on_temporal.py", "temporalio.worker"),
    Engine("prefect", "Prefect", "on_prefect.py", "prefect"),
)
Figures = dict[str, float]
COLUMNS = (
    "CPU a step",
    "ratio",
    "clock a step",
    "resume, clock",
    "resume, CPU",
    "import, CPU",
    "on disk",
    "memory",
)


class Failed(Exception):
    """An engine's program failed; the message contains its output."""


def phase(engine: Engine, folder: Path, count: int, name: str) -> Figures:
    """Run one phase of an engine's program; return its figures, none for a crash."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [engine.python(), str(HERE / engine.program), str(folder), str(count), name]
    try:
        program = subprocess.Popen(
            [*command, *engine.arguments],
            cwd=folder,
            env={**environ(ROOT if engine.name == OURS else None), "RESTATE_SERVER": str(SERVER)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise Failed("it is not installed") from error
    return figures_of(program, name)


def figures_of(program: subprocess.Popen[str], name: str) -> Figures:
    try:
        said, complained = program.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired as error:
        # The server belongs to the session of the program.
        os.killpg(program.pid, signal.SIGKILL)
        program.communicate()
        raise Failed(f"{name}: not done after {PATIENCE} s") from error
    if program.returncode:
        raise Failed(f"{name}: {' '.join((complained or said).strip().splitlines()[-1:])}")
    lines = [line for line in said.splitlines() if line.startswith('{"wall"')]
    found: Figures = json.loads(lines[-1]) if lines else {}
    return found


def once(engine: Engine, count: int) -> Figures:
    """Run `count` steps, then resume with as many. Return the figures of both."""
    folder = SCRATCH / engine.name
    shutil.rmtree(folder, ignore_errors=True)
    figures = phase(engine, folder / "run", count, "run")
    figures["bytes"] = size(folder / "run")
    phase(engine, folder / "again", count, "crash")
    again = phase(engine, folder / "again", count, "resume")
    return {**figures, "resume": again["wall"], "resume_cpu": again["cpu"]}


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def imported(engine: Engine) -> float:
    path = ROOT if engine.name == OURS else None
    command = [engine.python(), "-c", f"import {engine.module}"]
    return best(lambda: cost(command, path=path), runs=3).cpu


def measure(count: int) -> dict[Engine, Figures | Failed]:
    """Run all engines in turns; return the medians of each, or its failure."""
    engines = [engine for engine in ENGINES if count <= MOST.get(engine.title, count)]
    taken: dict[Engine, list[Figures]] = {engine: [] for engine in engines}
    failed: dict[Engine, Failed] = {}
    for _ in range(RUNS[count]):
        for engine in engines:
            if engine not in failed:
                sys.stderr.write(f"{engine.title}, {count:,} steps\n")
                try:
                    taken[engine].append(once(engine, count))
                except Failed as error:
                    failed[engine] = error
    return {engine: failed.get(engine) or typical(runs) for engine, runs in taken.items()}


def typical(runs: list[Figures]) -> Figures:
    return {name: median(run[name] for run in runs) for name in runs[0]}


def cells(count: int, it: Figures, ours: Figures | Failed, imported: float) -> list[str]:
    ratio = "" if isinstance(ours, Failed) else f"{it['cpu'] / ours['cpu']:.1f}×"
    return [
        f"{it['cpu'] / count * 1000:.2f} ms",
        ratio,
        f"{it['wall'] / count * 1000:.1f} ms",
        f"{it['resume'] * 1000:,.0f} ms",
        f"{it['resume_cpu'] * 1000:,.0f} ms",
        f"{imported:.2f} s",
        f"{it['bytes'] / 1024:,.0f} KiB",
        f"{it['peak'] + it['server_peak']:,.0f} MiB",
    ]


def rows(count: int) -> Iterator[list[str]]:
    yield [f"engine, {count:,} steps", *COLUMNS]
    yield ["---"] * (1 + len(COLUMNS))
    found = measure(count)
    ours = found[ENGINES[0]]
    for engine, it in found.items():
        if isinstance(it, Failed):
            yield [engine.title, f"failed: {it}", *[""] * (len(COLUMNS) - 1)]
        else:
            yield [engine.title, *cells(count, it, ours, imported(engine))]


def report() -> str:
    """Return the tables of `docs/internals/benchmarks.md`."""
    tables = (["| " + " | ".join(row) + " |" for row in rows(count)] for count in RUNS)
    return "\n\n".join("\n".join(lines) for lines in tables)
