"""Cost of starting: `import kitaru`, the command line, a step of a compiled pipeline."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from common import ROOT, Cost, Line, best, cost

PROGRAMS = [
    ("`import kitaru`", ["-c", "import kitaru"], "≤ 0.1 s CPU"),
    ("`from kitaru import checkpoint, flow`", ["-c", "from kitaru import checkpoint, flow"], ""),
    ("what a step imports", ["-c", "import kitaru.runtime.steps.step"], ""),
    ("`kitaru --version`", ["-m", "kitaru", "--version"], ""),
]
FLOW = ROOT / "examples" / "review_flow.py"


def python(arguments: Sequence[str]) -> Cost:
    return best(lambda: cost([sys.executable, *arguments]))


def first_step() -> Cost:
    """The first step of the review flow, in a new execution each time."""
    with tempfile.TemporaryDirectory() as name:
        build = Path(name)
        compiling = ["compile", str(FLOW), "--target", "kubeflow", "-o", name, "--json"]
        cost([sys.executable, "-m", "kitaru", *compiling])
        (plan,) = build.rglob("plan.json")
        step = json.loads(plan.read_text())["steps"][0]["name"]
        store = f"sqlite:{build / 'kitaru.db'}"
        command = [sys.executable, "-m", "kitaru.runtime", "step", "--plan", str(plan)]
        command += ["--step", step, "--store", store, "--run", "run", "--input", "topic=x"]
        runs = iter(range(1_000))
        return best(lambda: cost([*command, "--execution", f"run-{next(runs)}"], path=FLOW.parent))


def lines() -> list[Line]:
    bare = python(["-c", "pass"])
    costs = [(what, python(arguments), aim) for what, arguments, aim in PROGRAMS]
    costs.append(("a step, started and ended", first_step(), ""))
    against = f"bare Python {bare.cpu:.3f} s CPU"
    return [
        Line(what, f"{taken.cpu:.3f} s CPU", against, taken.cpu / bare.cpu, aim)
        for what, taken, aim in costs
    ]
