"""Residual plans: the remaining steps of a plan when control is at a given block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kitaru.wire.plan import Block, BranchItem, FanItem, LayoutItem, Plan, Step, StepItem, WaitItem
from kitaru_compiler.cut.layout import absorb_next


def residual(plan: Plan, block: str, digest: str, items: Sequence[str] = ()) -> Plan:
    """Return the plan of the remaining steps when control is at `block`.

    Finished steps are removed. The first remaining step starts at `block`. If exactly one step
    follows, it is merged into the first, whose container runs anyway. `digest` is the digest of the
    original plan, whose frames the new plan reads. If `block` gathers a fan-out, `items` are those
    of its nodes that still have work. Raises KeyError if the plan has no such block.

        residual(plan, "approve_draft", digest).steps  # what comes after the answer
    """
    start = plan.block(block)
    later = [s for s in plan.steps if plan.block(s.entry).index > start.index]
    own = next((s for s in plan.steps if s.entry == block and not s.per_item), None)
    first = own or _step_at(plan, start, later)
    rest = _after(plan.layout, own.name if own else block) or ()
    kept = {step.name for step in later}
    layout = (StepItem(first.name), *_decided_by(rest, kept, first.name))
    reachable = _reachable(layout)
    steps = (first, *(step for step in later if step.name in reachable))
    fan = next((s for s in plan.steps if s.entry == block and s.per_item), None)
    if fan and items:
        ahead = FanItem(fan.name, "", tuple(items))
        return plan.replace(
            steps=(fan, *steps), layout=(ahead, *layout), residual_of=plan.residual_of or digest
        )
    if start.kind == "wait":
        kinds = {block.name: block.kind for block in plan.blocks}
        steps, layout = absorb_next(steps, layout, kinds)
    return plan.replace(steps=steps, layout=layout, residual_of=plan.residual_of or digest)


def _step_at(plan: Plan, start: Block, later: list[Step]) -> Step:
    """Return a step that starts at a block which had no step of its own: a wait."""
    entries = {step.entry: step.name for step in later if not step.per_item}
    inside, exits, ends = {start.name}, [], False
    for block in plan.blocks[start.index :]:
        if block.name not in inside:
            continue
        for following in block.next:
            if following is None:
                ends = True
            elif following in entries:
                exits.append(entries[following])
            else:
                inside.add(following)
    ordered = [step.name for step in later if step.name in exits]
    return Step(
        name=start.name,
        entry=start.name,
        blocks=tuple(block.name for block in plan.blocks if block.name in inside),
        exits=(*ordered, None) if ends else tuple(ordered),
        span=start.span,
        may_wait=any(block.may_wait for block in plan.blocks if block.name in inside),
    )


def _after(items: tuple[LayoutItem, ...], name: str) -> tuple[LayoutItem, ...] | None:
    """Return the items after the step or wait called `name`, including outer sequences."""
    for index, item in enumerate(items):
        rest = items[index + 1 :]
        match item:
            case StepItem(found) | WaitItem(found):
                if found == name:
                    return rest
            case BranchItem(arms=arms):
                for arm in arms:
                    inner = _after(arm, name)
                    if inner is not None:
                        return (*inner, *rest)
    return None


def _decided_by(
    items: tuple[LayoutItem, ...], kept: set[str], first: str
) -> tuple[LayoutItem, ...]:
    """Let the first step make the decisions of an earlier step."""
    result: list[LayoutItem] = []
    for item in items:
        if isinstance(item, BranchItem):
            gone = item.decider is not None and item.decider not in kept
            arms = tuple(_decided_by(arm, kept, first) for arm in item.arms)
            item = replace(item, decider=first if gone else item.decider, arms=arms)
        if isinstance(item, FanItem) and item.producer not in kept:
            item = replace(item, producer=first)
        result.append(item)
    return tuple(result)


def _reachable(items: tuple[LayoutItem, ...]) -> set[str]:
    found: set[str] = set()
    for item in items:
        match item:
            case StepItem(name) | FanItem(fan=name):
                found.add(name)
            case BranchItem(arms=arms):
                found.update(*map(_reachable, arms))
    return found
