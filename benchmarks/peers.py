"""Decides what durability costs elsewhere: the same chain of trivial steps on each engine.

Each engine runs in an environment of its own, made by `python3 dev.py bench peers`, all in turns,
on the same disk. What each records before it goes on differs; the programs say how they are set.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from common import ROOT, Line, best, cost, environ

ENVS = ROOT / ".envs"
HERE = Path(__file__).resolve().parent / "engines"
SCRATCH = ROOT / "build" / "peers"
SERVER = ENVS / "restate" / "node_modules/@restatedev/restate-server-linux-x64/bin/restate-server"
RUNS = {100: 3, 1_000: 1}
# The largest number of steps that does not take minutes.
MOST = {"prefect": 100}
OURS = "kitaru"


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine as it is measured: `module` is what a program of its kind imports."""

    name: str
    program: str
    module: str
    arguments: tuple[str, ...] = ()

    def python(self) -> str:
        return sys.executable if self.name == OURS else str(ENVS / self.name / "bin" / "python")


ENGINES = (
    Engine(OURS, "on_kitaru.py", "kitaru"),
    Engine("dbos", "on_dbos.py", "dbos"),
    Engine("langgraph", "on_langgraph.py", "langgraph.func, langgraph.checkpoint.sqlite"),
    Engine("restate", "on_restate.py", "restate"),
    Engine("temporal", "on_temporal.py", "temporalio.worker", ("local",)),
    Engine("temporal", "on_temporal.py", "temporalio.worker"),
    Engine("prefect", "on_prefect.py", "prefect"),
)
Figures = dict[str, float]


def phase(engine: Engine, folder: Path, count: int, name: str) -> Figures:
    """Run one phase of an engine's program; return its figures, none for a crash."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [engine.python(), str(HERE / engine.program), str(folder), str(count), name]
    done = subprocess.run(
        [*command, *engine.arguments],
        cwd=folder,
        env={**environ(ROOT if engine.name == OURS else None), "RESTATE_SERVER": str(SERVER)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{engine.program} {name} failed:\n{done.stdout}{done.stderr}")
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"wall"')]
    found: Figures = json.loads(lines[-1]) if lines else {}
    return found


def once(engine: Engine, count: int) -> Figures:
    """Run `count` steps, and go on with as many; return the figures of both."""
    folder = SCRATCH / engine.name
    shutil.rmtree(folder, ignore_errors=True)
    figures = phase(engine, folder / "run", count, "run")
    figures["bytes"] = size(folder / "run")
    phase(engine, folder / "again", count, "crash")
    again = phase(engine, folder / "again", count, "resume")
    return {**figures, "resume": again["wall"], "resume_cpu": again["cpu"]}


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def typical(runs: list[Figures]) -> Figures:
    return {name: median(run[name] for run in runs) for name in runs[0]}


def imported(engine: Engine) -> float:
    path = ROOT if engine.name == OURS else None
    command = [engine.python(), "-c", f"import {engine.module}"]
    return best(lambda: cost(command, path=path), runs=3).cpu


def measure(count: int, imports: Mapping[str, float]) -> list[Line]:
    engines = [engine for engine in ENGINES if count <= MOST.get(engine.name, count)]
    runs: dict[Engine, list[Figures]] = {engine: [] for engine in engines}
    for _ in range(RUNS[count]):
        for engine in engines:
            runs[engine].append(once(engine, count))
    found = {engine: typical(taken) for engine, taken in runs.items()}
    ours = found[ENGINES[0]]
    return [
        line(engine, count, figures, ours, imports[engine.name])
        for engine, figures in found.items()
    ]


def line(engine: Engine, count: int, it: Figures, ours: Figures, imported: float) -> Line:
    parts = [
        f"{it['cpu'] / count * 1000:.2f} ms CPU and {it['wall'] / count * 1000:.2f} ms a step",
        f"resume {it['resume'] * 1000:,.0f} ms",
        f"import {imported:.2f} s CPU",
        f"{it['bytes'] / 1024:,.0f} KiB",
        f"{it['peak'] + it['server_peak']:,.0f} MiB",
    ]
    return Line(
        what=f"{' '.join((engine.name, *engine.arguments))}, {count:,} steps",
        ours=", ".join(parts),
        against="Kitaru, CPU a step",
        ratio=it["cpu"] / ours["cpu"],
        aim="",
    )


def lines() -> list[Line]:
    imports = {engine.name: imported(engine) for engine in ENGINES}
    return [row for count in RUNS for row in measure(count, imports)]
