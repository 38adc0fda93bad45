"""Decides the order of steps where a target has no groups, and where it may branch once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kitaru.wire.plan import BranchItem, LayoutItem, Plan, Span, Step, StepItem


@dataclass(frozen=True, slots=True)
class Split:
    """Where a chain goes one of two ways, with nothing behind them.

    `decider` always runs. When its `output` is one of `words` the steps `then` follow, else those
    of `otherwise`. All of both may start in any case: their guards know.
    """

    decider: str
    output: Literal["next", "status"]
    words: tuple[str, ...]
    then: tuple[str, ...]
    otherwise: tuple[str, ...]
    span: Span


def steps_in(items: Sequence[LayoutItem]) -> tuple[str, ...]:
    """Return the names of the steps of a layout in program order."""
    found: list[str] = []
    for item in items:
        if isinstance(item, StepItem):
            found.append(item.step)
        elif isinstance(item, BranchItem):
            found += [name for arm in item.arms for name in steps_in(arm)]
    return tuple(found)


def split(plan: Plan) -> Split | None:
    """Return the split that spares most containers, None where no step could be spared.

    A wait surely ends a run that nobody has answered: the first comes first. Then the first place
    where the flow may return early, and then a branch that the flow ends with.
    """
    steps = {step.name: step for step in plan.steps}
    for stops in (_may_wait, _may_end):
        stopped = False
        for index, item in enumerate(plan.layout):
            names = steps_in((item,))
            stopped = stopped or any(stops(steps[name]) for name in names)
            rest = steps_in(plan.layout[index + 1 :])
            if stopped and rest and isinstance(item, StepItem):
                return Split(item.step, "status", ("go",), rest, (), steps[item.step].span)
    return _last_branch(plan)


def _last_branch(plan: Plan) -> Split | None:
    """Return the split of a branch with nothing behind it, decided by a step that always runs."""
    items = [item for item in plan.layout if steps_in((item,))]
    last = items[-1]
    always = [item.step for item in items if isinstance(item, StepItem)]
    if not isinstance(last, BranchItem) or last.decider not in always:
        return None
    taken, *others = [names for names in map(steps_in, last.arms) if names]
    rest = tuple(name for names in others for name in names)
    return Split(last.decider, "next", taken, taken, rest, last.span)


def _may_wait(step: Step) -> bool:
    return step.may_wait


def _may_end(step: Step) -> bool:
    return None in step.exits
