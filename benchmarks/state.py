"""Cost of comparing the state of modules, which each process of a step does."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common import Line, cost

from kitaru.runtime.steps.program import load_program, read_plan
from kitaru.runtime.steps.state_changes import Watch

CALLS = (10, 100, 1_000)
GLOBALS = 60
HEAD = "from kitaru import checkpoint, flow\n"


def source(calls: int, globals: int = GLOBALS) -> str:
    """A flow with `calls` calls; its module has as many checkpoints as helpers and tables."""
    kinds = globals // 3
    parts = [
        f"CONF_{at} = {{'a': [1, 2, {at}]}}\n"
        f"def helper_{at}(x): return CONF_{at}['a'][0] + x\n"
        f"@checkpoint\ndef work_{at}(x): return helper_{at}(x)\n"
        for at in range(kinds)
    ]
    lines = [f"    x = work_{at % kinds}(helper_{at % kinds}(x))\n" for at in range(calls)]
    flow = ["@flow\ndef main(x: int):\n", *lines, "    return x\n"]
    return "".join([HEAD, *parts, *flow])


def fastest(once: Callable[[], object], runs: int = 20) -> float:
    """Return the shortest CPU time in milliseconds."""
    taken = []
    for _ in range(runs):
        started = time.process_time()
        once()
        taken.append(time.process_time() - started)
    return 1_000 * min(taken)


def measured(calls: int, globals: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / f"state_{calls}_{globals}.py"
        file.write_text(source(calls, globals))
        command = [sys.executable, "-m", "kitaru", "compile", str(file), "--target"]
        cost([*command, "kubeflow", "-o", str(folder / "build"), "--json"])
        (path,) = (folder / "build").rglob("plan.json")
        plan, digest = read_plan(path)
        sys.path.insert(0, name)
        program = load_program(plan, digest, path)
        sys.path.remove(name)
        watch = Watch(program)
        following = plan.blocks[1].name
        return fastest(lambda: Watch(program)), fastest(lambda: watch.lost(following, {}))


def lines() -> list[Line]:
    found = []
    for calls, globals in [*((calls, GLOBALS) for calls in CALLS), (100, 10 * GLOBALS)]:
        start, cut = measured(calls, globals)
        what = f"state of modules, {calls:,} calls, {globals} globals"
        ours = f"{start:.1f} ms at the start, {cut:.1f} ms a cut"
        found.append(Line(what, ours, "no comparison", None, ""))
    return found
