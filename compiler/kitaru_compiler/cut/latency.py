"""Estimate the start time of containers on the longest path, from the target's table.

The table contains our estimates, not measurements. The number of starts is exact. Steps that start
side by side count once. Of the arms of a branch, the longest counts if the target has conditions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kitaru.wire.plan import BranchItem, FanItem, LayoutItem, Plan, StepItem
from kitaru.wire.structs import Struct
from kitaru_compiler.cut.profile import Profile


class Starts(Struct):
    """Start-up time of a run: `steps` sequential starts, or `calls` if each call were a step.

    `seconds` is the start-up time of the steps, low and high. `seconds_of_calls` is that of the
    calls. `idle` is the maximum number of the starts that find nothing to do.
    """

    steps: int
    calls: int
    seconds: tuple[int, int]
    seconds_of_calls: tuple[int, int]
    idle: int = 0


def starts(plan: Plan, profile: Profile) -> Starts:
    """Return the number of starts on the longest path through a plan.

    Calls are counted by their positions in the source: a repeated call in an uncut loop counts
    once.

        starts(plan, get("vertex").profile).seconds  # (240, 480)
    """
    working = {
        block.name: sum(not _is_cheap(call) for call in block.calls)
        for block in plan.blocks
        if block.kind not in ("wait", "log", "fan")
    }

    calls = {s.name: max(1, sum(working.get(name, 0) for name in s.blocks)) for s in plan.steps}
    steps = _longest(plan.layout, profile, dict.fromkeys(calls, 1))
    alone = _longest(plan.layout, profile, calls)
    low, high = profile.start_seconds
    return Starts(steps, alone, (steps * low, steps * high), (alone * low, alone * high))


def _is_cheap(call: str) -> bool:
    return call == "now" or call.startswith("memory.")


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
                # Without native conditions, the steps of every arm start and check their guards.
                total += max(lengths) if decider and profile.branches else sum(lengths)
    return total


def shown(seconds: tuple[int, int]) -> str:
    """Format a range of seconds for people.

    >>> shown((240, 480)), shown((20, 40)), shown((90, 90))
    ('4–8 min', '20–40 s', '90 s')
    """
    low, high = seconds
    if high >= 120:
        low, high, unit = round(low / 60), round(high / 60), "min"
    else:
        unit = "s"
    return f"{high} {unit}" if low == high else f"{low}–{high} {unit}"
