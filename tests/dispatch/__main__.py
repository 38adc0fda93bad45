"""Run seeds of the dispatcher's simulation: `python -m tests.dispatch --seed 1 --seconds 60`.

Prints each failure with the command that runs its seed again, and a summary at the end. With
`--mutants`, shows how many seeds each rule of the protocol needs to be missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.dispatch import events, limits
from tests.dispatch.world import Report, simulate


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.dispatch", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="minimum number of seeds")
    parser.add_argument("--seconds", type=float, default=0, help="continue for this many seconds")
    parser.add_argument("--trace", action="store_true", help="print what happens, step by step")
    parser.add_argument("--mutants", action="store_true", help="show how soon each is caught")
    world = parser.add_mutually_exclusive_group()
    world.add_argument("--events", action="store_true", help="executions that wait for events")
    world.add_argument("--limits", action="store_true", help="executions of a flow with limits")
    asked = parser.parse_args()
    if asked.mutants:
        from tests.dispatch.mutants import show

        return show(asked.seed, asked.seeds)
    play = events.play if asked.events else limits.play if asked.limits else simulate
    began, seed = time.monotonic(), asked.seed
    totals: Counter[str] = Counter()
    failed = []
    while seed < asked.seed + asked.seeds or time.monotonic() - began < asked.seconds:
        report = play(seed, keeps_trace=asked.trace)
        _show(report)
        totals.update(
            {name: getattr(report, name) for name in ("executions", "runs", "kills", "faults")}
        )
        totals.update({"store operations": report.operations, "superseded": report.superseded})
        totals.update({"runs that were not needed": report.twice, report.kind: 1})
        if report.failure is not None:
            failed.append(seed)
        seed += 1
    _print(f"{seed - asked.seed} seeds, {len(failed)} failed {failed or ''}")
    for name, number in totals.items():
        _print(f"{number:>12,} {name}")
    return 1 if failed else 0


def _show(report: Report) -> None:
    for line in report.trace or []:
        _print(line)
    if report.failure is not None:
        _print(f"seed {report.seed}: {type(report.failure).__name__}: {report.failure}")
        _print(f"again: python -m tests.dispatch --seed {report.seed} --trace")


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
