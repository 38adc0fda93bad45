"""Run seeds of the simulation: `python -m tests.simulation --seed 1 --seconds 60`.

Prints each failure with the command that runs its seed again, and a summary at the end.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.simulation.mutants import MUTANTS, seeds_until_caught
from tests.simulation.run import simulate
from tests.simulation.shrink import shrink
from tests.simulation.world import Report


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="minimum number of seeds")
    parser.add_argument("--steps", type=int, default=0, help="continue until this many steps")
    parser.add_argument("--seconds", type=float, default=0, help="continue for this many seconds")
    parser.add_argument("--trace", action="store_true", help="print what happens, step by step")
    parser.add_argument("--shrink", action="store_true", help="reduce the first run that fails")
    parser.add_argument("--mutants", action="store_true", help="show how soon each is caught")
    asked = parser.parse_args()
    if asked.mutants:
        return _show_mutants(asked.seed, asked.seeds)
    began, seed, steps = time.monotonic(), asked.seed, 0
    totals: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    failed = []
    while (
        seed < asked.seed + asked.seeds
        or steps < asked.steps
        or time.monotonic() - began < asked.seconds
    ):
        report = simulate(seed, keeps_trace=asked.trace)
        _show(report)
        steps += report.steps
        faults += report.faults
        totals.update(steps=report.steps, operations=report.operations)
        totals.update(processes=report.processes, executions=report.executions)
        totals.update({f"{status} at the end": count for status, count in report.ended.items()})
        if report.failure is not None:
            failed.append(seed)
            if asked.shrink:
                _print(f"smallest: {shrink(seed)}")
                break
        seed += 1
    _print(f"{seed - asked.seed} seeds, {len(failed)} failed {failed or ''}")
    for name, count in (totals + faults).items():
        _print(f"{count:>12,} {name}")
    return 1 if failed else 0


def _show(report: Report) -> None:
    for line in report.trace or []:
        _print(line)
    if report.failure is not None:
        _print(f"seed {report.seed}: {type(report.failure).__name__}: {report.failure}")
        _print(f"again: python -m tests.simulation --seed {report.seed} --trace")


def _show_mutants(first: int, most: int) -> int:
    missed = 0
    for name, wrong in MUTANTS.items():
        seeds = seeds_until_caught(wrong, max(most, 1), first)
        missed += seeds is None
        _print(f"{'not caught' if seeds is None else seeds:>12} {name}")
    return 1 if missed else 0


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
