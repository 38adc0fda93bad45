"""Decides what starting costs: `import kitaru`, a step of a compiled pipeline, the command line."""

from __future__ import annotations

import sys

from common import Line, best_cost

PROGRAMS = [
    ("`import kitaru`", ["-c", "import kitaru"], "≤ 0.1 s CPU"),
    ("what a step imports", ["-c", "import kitaru.runtime.__main__"], ""),
    ("`kitaru --version`", ["-c", "from kitaru.cli import main; main(['--version'])"], ""),
]


def lines() -> list[Line]:
    bare = best_cost([sys.executable, "-c", "pass"])
    report = []
    for what, arguments, aim in PROGRAMS:
        taken = best_cost([sys.executable, *arguments])
        own = f"{taken.cpu - bare.cpu:.3f} s CPU more"
        against = f"bare Python {bare.cpu:.3f} s CPU"
        report.append(Line(what, own, against, taken.cpu / bare.cpu, aim))
    return report
