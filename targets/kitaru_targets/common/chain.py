"""The order of steps on targets without groups, and the single branch or wait they allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kitaru.wire.plan import BranchItem, FanItem, LayoutItem, Plan, Span, Step, StepItem


@dataclass(frozen=True, slots=True)
class Split:
    """A point where a chain takes one of two paths, with no step after them.

    `decider` always runs. If its `output` is one of `words`, the steps `then` follow, if any,
    otherwise the steps `otherwise`. All steps of both paths may start in any case: their guards
    decide.
    """

    decider: str
    output: Literal["next", "status"]
    words: tuple[str, ...]
    then: tuple[str, ...]
    otherwise: tuple[str, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Ask:
    """A wait at which a run can stay open: `decider` always runs, and asks at its end.

    `then` are the steps after the answer to the wait `block`, beginning with the step that reads
    it.
    """

    decider: str
    block: str
    then: tuple[str, ...]
    span: Span


def steps_in(items: Sequence[LayoutItem]) -> tuple[str, ...]:
    """Return the names of the steps of a layout in program order; a fan-out's nodes count once."""
    found: list[str] = []
    for item in items:
        if isinstance(item, StepItem):
            found.append(item.step)
        elif isinstance(item, FanItem):
            found.append(item.fan)
        elif isinstance(item, BranchItem):
            found += [name for arm in item.arms for name in steps_in(arm)]
    return tuple(found)


def fans(items: Sequence[LayoutItem]) -> dict[str, FanItem]:
    """Return the fan-outs of a layout by the step that their nodes run."""
    found: dict[str, FanItem] = {}
    for item in items:
        if isinstance(item, FanItem):
            found[item.fan] = item
        elif isinstance(item, BranchItem):
            for arm in item.arms:
                found |= fans(arm)
    return found


def order(plan: Plan, items: Sequence[LayoutItem] | None = None) -> tuple[str, ...]:
    """Return the steps of a run that does not stay open for an answer."""
    taking = takers(plan)
    names = steps_in(plan.layout if items is None else items)
    return tuple(name for name in names if name not in taking)


def split(plan: Plan) -> Split | None:
    """Return the split that saves the most containers, None if every split has steps after it.

    An unanswered wait surely ends a run, so the first wait has priority. The next choice is the
    first possible early return of the flow, then a branch at the end of the flow.
    """
    steps = {step.name: step for step in plan.steps}
    for stops in (_may_wait, _may_end):
        stopped = False
        for index, item in enumerate(plan.layout):
            names = order(plan, (item,))
            stopped = stopped or any(stops(steps[name]) for name in names)
            rest = plan.layout[index + 1 :]
            if stopped and steps_in(rest) and names and isinstance(item, StepItem):
                then, span = order(plan, rest), steps[item.step].span
                return Split(item.step, "status", ("go",), then, (), span)
    return _last_branch(plan)


def asks(plan: Plan, decider: str) -> tuple[Ask, ...]:
    """Return the waits that the step `decider`, which always runs, may ask at its end."""
    names = steps_in(plan.layout)
    later = names[names.index(decider) + 1 :]
    inside, taking = plan.step(decider).blocks, takers(plan)
    asked = [name for name in later if name in taking and plan.step(name).entry in inside]
    return tuple(
        Ask(
            decider,
            plan.step(name).entry,
            (name, *(after for after in later if after in _behind(plan, name) - taking)),
            plan.step(name).span,
        )
        for name in asked
    )


def _behind(plan: Plan, name: str) -> frozenset[str]:
    """Return the steps that control may reach from a step, and the nodes that they wait for."""
    found: set[str] = set()
    ahead = [name]
    while ahead:
        new = {exit for exit in plan.step(ahead.pop()).exits if exit} - found
        found |= new
        ahead += new
    entries = {plan.step(step).entry for step in found}
    return frozenset(s.name for s in plan.steps if s.entry in entries)


def takers(plan: Plan) -> frozenset[str]:
    """Return the steps that have work only after a run stayed open for an answer.

    If the run ends at the wait instead, the residual pipeline starts with such a step.
    """
    return frozenset(s.name for s in plan.steps[1:] if plan.block(s.entry).kind == "wait")


def _last_branch(plan: Plan) -> Split | None:
    """Return the split of a final branch that a step decides which always runs."""
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
