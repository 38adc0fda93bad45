"""Estimate the start time of containers on the longest path, from the target's table.

The table is ours, not a measurement; the number of starts is exact. Steps that start side by side
count once, arms of a branch count as the longest of them where the target has conditions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kitaru.wire.plan import BranchItem, FanItem, LayoutItem, Plan, StepItem
from kitaru_compiler.cut.profile import Profile


@dataclass(frozen=True, slots=True)
class Starts:
    """What a run waits for: `steps` starts one after the other, `calls` if each call were a step.

    `seconds` is what those steps cost to start, low and high, `seconds_of_calls` what calls would.
    """

    steps: int
    calls: int
    seconds: tuple[int, int]
    seconds_of_calls: tuple[int, int]


def starts(plan: Plan, profile: Profile) -> Starts:
    """Return the starts on the longest way through a plan.

    Calls are counted where they stand in the source: what a loop that stays together calls again
    counts once.

        starts(plan, get("vertex").profile).seconds  # (240, 480)
    """
    working = {
        block.name: sum(not call.startswith("memory.") for call in block.calls)
        for block in plan.blocks
        if block.kind not in ("wait", "log", "fan")
    }

    calls = {s.name: max(1, sum(working.get(name, 0) for name in s.blocks)) for s in plan.steps}
    steps = _longest(plan.layout, profile, dict.fromkeys(calls, 1))
    alone = _longest(plan.layout, profile, calls)
    low, high = profile.start_seconds
    return Starts(steps, alone, (steps * low, steps * high), (alone * low, alone * high))


def _longest(items: Iterable[LayoutItem], profile: Profile, weights: Mapping[str, int]) -> int:
    total = 0
    for item in items:
        match item:
            case StepItem(name):
                total += weights[name]
            case FanItem():
                total += 1
            case BranchItem(decider=decider, arms=arms):
                lengths = [_longest(arm, profile, weights) for arm in arms]
                # Where no condition chooses, the steps of every arm start and ask their guards.
                total += max(lengths) if decider and profile.branches else sum(lengths)
    return total


def shown(seconds: tuple[int, int]) -> str:
    """Return a range of seconds as a person says it.

    >>> shown((240, 480)), shown((20, 40)), shown((90, 90))
    ('4–8 min', '20–40 s', '90 s')
    """
    low, high = seconds
    if high >= 120:
        low, high, unit = round(low / 60), round(high / 60), "min"
    else:
        unit = "s"
    return f"{high} {unit}" if low == high else f"{low}–{high} {unit}"
