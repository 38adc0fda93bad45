"""The order of steps on targets without groups, and the one step that may select among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from kitaru.wire.plan import BranchItem, FanItem, LayoutItem, Plan, Span, Step, StepItem
from kitaru_targets.common import branches


@dataclass(frozen=True, slots=True)
class Way:
    """The steps that may run after an outcome of a step, with no step behind all the ways.

    If the step's output `next` is one of `words`, the steps `then` follow. `name` is that of the
    arm in the source, and empty for the steps behind a branch.
    """

    words: tuple[str, ...]
    then: tuple[str, ...]
    name: str
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


def copies(found: Sequence[Way]) -> int:
    """Return how many steps are in more than one way, counted once for each further way."""
    then = [name for way in found for name in way.then]
    return len(then) - len({*then})


class Chain:
    """The steps of a plan in a row, and what follows if one of them selects the later ones."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._steps: dict[str, Step] = {step.name: step for step in plan.steps}

    @cached_property
    def takers(self) -> frozenset[str]:
        """The steps that have work only after a run stayed open for an answer.

        If the run ends at the wait instead, the residual pipeline starts with such a step.
        """
        waits = {block.name for block in self._plan.blocks if block.kind == "wait"}
        return frozenset(s.name for s in self._plan.steps[1:] if s.entry in waits)

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The steps of a run that does not stay open for an answer."""
        return tuple(name for name in steps_in(self._plan.layout) if name not in self.takers)

    def decider(self, most: int, *, asking: bool) -> str | None:
        """Return the step whose outcomes select the later steps; None if no step does.

        Of the steps that always run, it is the one with which the fewest containers start for
        nothing, and then the one with the fewest copies of steps, of which there may be `most`.
        With `asking`, a step that asks a wait has priority, because the run can stay open there.
        """
        found = []
        always = [item.step for item in self._plan.layout if isinstance(item, StepItem)]
        for index, name in enumerate(name for name in always if name not in self.takers):
            ways = self.ways(name)
            copied = copies(ways)
            waits = asking and bool(self.asks(name))
            if len(self._plan.steps) + copied > most or not (waits or ways):
                continue
            # The first wait comes first.
            found.append((not waits, index if waits else self.idle(name), copied, index, name))
        if not found or (min(found)[0] and min(found)[1] >= self.idle(None)):
            return None
        return min(found)[-1]

    def ways(self, decider: str) -> tuple[Way, ...]:
        """Return the ways from a step, one for each arm, and one for the steps behind all arms.

        Each later step is a word of exactly one way, because a process may do the work of more than
        one step. So control may continue at any of them.
        """
        here = self._steps[decider]
        later = self.order[self.order.index(decider) + 1 :]
        exits = [exit for exit in here.exits if exit and exit not in self.takers]
        behind = {exit: self._behind(exit) | {exit} for exit in exits}
        shared = {n for n in later if sum(n in names for names in behind.values()) > 1}
        named = self._named(decider)
        found = []
        for exit in exits:
            own = tuple(name for name in later if name in behind[exit] and name not in shared)
            if own:
                then = tuple(name for name in later if name in behind[exit])
                found.append(self._way(own, then, named.get(exit, ("", here.span))))
        together = tuple(name for name in later if name in shared)
        if together:
            found.append(self._way(together, together, ("", here.span)))
        return tuple(found)

    def _way(self, own: tuple[str, ...], then: tuple[str, ...], named: tuple[str, Span]) -> Way:
        return Way(tuple(name for name in own if not self._steps[name].per_item), then, *named)

    def _named(self, decider: str) -> dict[str, tuple[str, Span]]:
        """Return the name and the place of the arm that starts with a step."""
        found = {}
        for item in self._plan.layout:
            if isinstance(item, BranchItem) and item.decider == decider:
                for arm in branches.arms(item):
                    for name in steps_in(arm.items)[:1]:
                        found[name] = arm.name, item.span
        return found

    def started(self, decider: str | None) -> int:
        """Return how many steps start in a row at most, if `decider` selects the later ones."""
        if decider is None:
            return len(self.order)
        behind = [len(way.then) for way in self.ways(decider)]
        return self.order.index(decider) + 1 + max([0, *behind])

    def idle(self, decider: str | None) -> int:
        """Return how many steps start for nothing at most, if `decider` selects the later ones.

        Without a decider, all steps start in order.

        Example:
            Chain(plan).idle("classify")  # 0
        """
        names = self._single
        if not names:
            return 0
        first = names if decider is None else names[: names.index(decider) + 1]
        reached = {names[0]: 1}
        for name in first:
            for exit in self._steps[name].exits:
                if exit and name in reached:
                    reached[exit] = min(reached.get(exit, len(names)), reached[name] + 1)
        ends = [
            len(first) - reached[name]
            for name in first
            if name in reached and (_may_wait(self._steps[name]) or _may_end(self._steps[name]))
        ]
        if decider is None or decider not in reached:
            return max([0, *ends])
        before = len(first) - reached[decider]
        after = [
            len([name for name in way.then if name in self._least]) - self._least[word]
            for way in self.ways(decider)
            for word in self._steps[decider].exits
            if word in way.words
        ]
        return max([0, *ends, *(before + one for one in after)])

    @cached_property
    def _single(self) -> list[str]:
        """The steps in order, without nodes of fan-outs."""
        return [name for name in self.order if not self._steps[name].per_item]

    @cached_property
    def _least(self) -> dict[str, int]:
        """For each step the smallest number of steps from it to an end of the run."""
        found: dict[str, int] = {}
        for name in reversed(self._single):
            step = self._steps[name]
            behind = [found[exit] for exit in step.exits if exit in found]
            stops = _may_wait(step) or _may_end(step) or not behind
            found[name] = 1 + (0 if stops else min(behind))
        return found

    def asks(self, decider: str) -> tuple[Ask, ...]:
        """Return the waits that the step `decider`, which always runs, may ask at its end."""
        names = steps_in(self._plan.layout)
        later = names[names.index(decider) + 1 :]
        inside = self._steps[decider].blocks
        asked = [name for name in later if name in self.takers]
        found = []
        for name in (name for name in asked if self._steps[name].entry in inside):
            behind = self._behind(name) - self.takers
            then = name, *(after for after in later if after in behind)
            found.append(Ask(decider, self._steps[name].entry, then, self._steps[name].span))
        return tuple(found)

    def _behind(self, name: str) -> frozenset[str]:
        """Return the steps that control may reach from a step, and the nodes that they wait for."""
        found: set[str] = set()
        ahead = [name]
        while ahead:
            new = {exit for exit in self._steps[ahead.pop()].exits if exit} - found
            found |= new
            ahead += new
        entries = {self._steps[step].entry for step in found}
        return frozenset(s.name for s in self._plan.steps if s.entry in entries)


def _may_wait(step: Step) -> bool:
    return step.may_wait


def _may_end(step: Step) -> bool:
    return None in step.exits
