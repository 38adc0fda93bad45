"""Decides what `python -m tests.fire model` prints: everything, where a test run tries a part."""

from __future__ import annotations

import sys
import time

from .model import SCENARIOS


def model() -> None:
    say("processes", "faults", "crashes", "states", "transitions", "contents of the store", "s")
    for name, scenario in SCENARIOS.items():
        for budget in (*scenario.budgets, *scenario.whole):
            started = time.monotonic()
            found = scenario.explore(budget)
            counted = found.states, found.transitions, len(found.stores)
            say(name, *budget, *counted, round(time.monotonic() - started))


def say(*cells: object) -> None:
    sys.stdout.write(f"| {' | '.join(map(str, cells))} |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    {"model": model}[sys.argv[1]]()
