"""Choose the blocks that start a step, and arrange the steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from kitaru.wire.plan import (
    BlockKind,
    BranchItem,
    FanItem,
    Granularity,
    LayoutItem,
    Span,
    Step,
    StepItem,
    WaitItem,
)
from kitaru_compiler.cut.basic_blocks import DraftBlock, Fork, Place
from kitaru_compiler.cut.profile import Profile
from kitaru_compiler.cut.resources import isolated, option, resources
from kitaru_compiler.cut.retries import retrying

Laid = tuple[tuple[Step, ...], tuple[LayoutItem, ...]]
# Why a call runs in the step before it: its `runtime="inline"`, the granularity, or the target's
# maximum number of steps.
Joined = Literal["inline", "single", "fused", "limit"]

# Cheap calls run at the end of the previous step. A wait never occupies a container.
_CHEAP = frozenset({"log", "memory", "inbox"})
RIDES_ALONG = _CHEAP | {"wait", "join", "gather", "call", "return"}
IDLE = RIDES_ALONG | {"entry"}

# In seconds. A retry by the orchestrator in a new container also recovers from a killed process.
RETRY_IS_WORTH = 30


class Entry(NamedTuple):
    """The start of a step: its name and its first block."""

    name: str
    block: DraftBlock


@dataclass
class Cutter:
    """Chooses the entries of steps for one granularity and profile.

    `undecided_branches` maps each branch that no single step decides to whether the reason is that
    it nests deeper than the target's conditions allow. `joined` contains, by block, why a call
    starts no step.
    """

    blocks: list[DraftBlock]
    granularity: Granularity
    profile: Profile
    entries: dict[int, Entry] = field(default_factory=dict)
    fans: list[Step] = field(default_factory=list)
    undecided_branches: dict[Span, bool] = field(default_factory=dict)
    joined: dict[int, Joined] = field(default_factory=dict)
    # The first block that would have started a step if the limit had not been reached.
    first_over_limit: DraftBlock | None = None

    def __post_init__(self) -> None:
        self.successors = [
            [None if target is None else target.index for target in block.next]
            for block in self.blocks
        ]

    def cut(self, structure: list[Place | Fork]) -> Laid:
        """Return the steps in program order, and their layout."""
        start = self.blocks[0]
        self.entries = {start.index: Entry(start.name, start)}
        inner, _ = self._items(structure, start.name, start, 0)
        layout: tuple[LayoutItem, ...] = (StepItem(start.name), *inner)
        order = {block.name: block.index for block in self.blocks}
        cuts = self._cuts()
        steps = [*self.fans, *(self._step(i, cuts) for i in sorted(self.entries))]
        steps.sort(key=lambda step: order[step.entry])
        return absorb_next(tuple(steps), layout, {b.name: b.kind for b in self.blocks})

    def _items(
        self,
        structure: list[Place | Fork],
        decider: str | None,
        last: DraftBlock | None,
        depth: int,
        gathering: DraftBlock | None = None,
    ) -> tuple[tuple[LayoutItem, ...], str | None]:
        """Lay out one sequence; return it with the step that alone decides what runs next.

        `depth` is the number of enclosing conditions. `gathering` is the end of a fan-out: the next
        step, whatever it contains, starts there.
        """
        items: list[LayoutItem] = []
        for element in structure:
            if isinstance(element, Fork) and element.certain:
                # For `if …: return` and the code after it, the decider's status shows whether the
                # flow continues.
                rest = [place for arm in element.arms for place in arm]
                inner, decider = self._items(rest, decider, last, depth, gathering)
                items += inner
                last = gathering = None
                continue
            if gathering and not takes_in(element):
                items.append(self._entry(gathering, gathering.name, gathering))
                decider, last, gathering = gathering.name, gathering, None
            if isinstance(element, Fork):
                branch = self._branch(element, decider, depth)
                items += branch
                if any(isinstance(item, BranchItem) for item in branch):
                    decider, last = None, None
                continue
            block = element.block
            if self._is_native(block):
                items += self._fan(block, decider)
            elif block.fan is not None and self._is_native(block.fan):
                gathering = block
            elif block.kind == "wait":
                items.append(WaitItem(block.name))
                if self.profile.waits == "native":
                    items.append(self._entry(block, self._after_answer(block), block))
                    decider, last = self.entries[block.index].name, block
            elif not rides_along(block) and (gathering or self._starts_step(block, last)):
                items.append(self._entry(gathering or block, block.name, block))
                decider, last, gathering = block.name, block, None
        if gathering:
            items.append(self._entry(gathering, gathering.name, gathering))
            decider = gathering.name
        return tuple(items), decider

    def _entry(self, at: DraftBlock, name: str, block: DraftBlock) -> StepItem:
        self.entries[at.index] = Entry(name, block)
        return StepItem(name)

    def _after_answer(self, block: DraftBlock) -> str:
        """Return a name for the step after a wait: the waiting node has the wait's own name."""
        taken = {other.name for other in self.blocks} | {e.name for e in self.entries.values()}
        base = name = f"{block.name}_answer"
        number = 1
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        return name

    def _is_native(self, block: DraftBlock) -> bool:
        return is_native(block, self.granularity, self.profile)

    def _fan(self, block: DraftBlock, decider: str | None) -> list[LayoutItem]:
        """Lay out the nodes of a fan-out, after a step that surely submits the calls."""
        items: list[LayoutItem] = []
        if decider is None:
            items.append(self._entry(block, block.name, block))
        step = nodes_of(block, self.profile)
        self.fans.append(step)
        return [*items, FanItem(step.name, decider or block.name)]

    def _branch(self, fork: Fork, decider: str | None, depth: int) -> tuple[LayoutItem, ...]:
        """Lay out a branch. If it contains no step, only its waits remain."""
        too_deep = self.profile.branches and depth >= self.profile.max_depth
        if too_deep:
            decider = None
        arms = []
        for arm in fork.arms:
            # One step decides a chain of `elif`: its conditions are siblings.
            chained = decider is not None and len(arm) == 1 and isinstance(arm[0], Fork)
            inside = depth if chained or too_deep else depth + 1
            arms.append(self._items(arm, decider, None, inside)[0])
        if not any(map(_has_steps, arms)):
            return tuple(item for arm in arms for item in arm)
        if decider is None and self.profile.branches:
            self.undecided_branches[fork.span] = too_deep
        if decider is None and not too_deep:
            arms = [_after_first(arm, fork.span) for arm in arms]
        return (BranchItem(decider, tuple(arms), fork.span, fork.test),)

    def _starts_step(self, block: DraftBlock, last: DraftBlock | None) -> bool:
        if isolated(block) and not self.profile.is_whole:
            return True
        why = self._why_joined(block, last)
        if why:
            self.joined[block.index] = why
        return not why

    def _why_joined(self, block: DraftBlock, last: DraftBlock | None) -> Joined | None:
        if option(block, "runtime") == "inline":
            return "inline"
        if last is not None and isolated(last) and not self.profile.is_whole:
            return None
        if self.granularity == "single":
            return "single"
        if self.granularity == "fused" and last is not None and self._shares(block, last):
            return "fused"
        return None if self._has_room(block) else "limit"

    def _shares(self, block: DraftBlock, last: DraftBlock) -> bool:
        """Return whether a separate start costs more than its benefit: a machine or a retry."""
        cheap = self.profile.start_seconds[1] <= RETRY_IS_WORTH and self.profile.retry == "native"
        retried = option(block, "retries") or option(last, "retries")
        return resources(block) == resources(last) and not (cheap and retried)

    def _has_room(self, block: DraftBlock) -> bool:
        most = self.profile.max_steps
        if most is None or len(self.entries) < most:
            return True
        self.first_over_limit = self.first_over_limit or block
        return False

    def _cuts(self) -> frozenset[int]:
        """Return whether a process surely ends. A wait is asked by the process that reaches it."""
        return frozenset(i for i in self.entries if self.blocks[i].kind != "wait")

    def _step(self, index: int, cuts: frozenset[int]) -> Step:
        """Return the step that starts at block `index`."""
        name, block = self.entries[index]
        inside, exits = reachable(self.successors, index, cuts)
        working = [self.blocks[i] for i in inside if not self._is_native(self.blocks[i])]
        durable = [c for b in working for c in b.calls if c.kind not in RIDES_ALONG]
        single = block.kind == "checkpoint" and len(durable) == 1
        step = Step(
            name=name,
            entry=self.blocks[index].name,
            blocks=tuple(self.blocks[i].name for i in inside),
            exits=tuple(None if e is None else self.entries[e].name for e in exits),
            span=block.source.span(block.place),
            may_wait=any(b.may_wait for b in working),
            resources=resources(*working),
            isolated=isolated(block),
        )
        options = [call.options for call in durable if call.options and single]
        return retrying(step, options, self.profile)


def reachable(
    successors: list[list[int | None]], entry: int, entries: frozenset[int]
) -> tuple[list[int], list[int | None]]:
    """Return the blocks that one process may run from `entry`, and the possible next entries."""
    inside, exits, ends = {entry}, set(), False
    pending = [entry]
    while pending:
        for target in successors[pending.pop()]:
            if target is None:
                ends = True
            elif target in entries:
                exits.add(target)
            elif target not in inside:
                inside.add(target)
                pending.append(target)
    ordered: list[int | None] = [*sorted(exits)]
    return sorted(inside), [*ordered, None] if ends else ordered


def rides_along(block: DraftBlock) -> bool:
    """Return whether a block needs no step of its own, regardless of the blocks before it."""
    cheap = bool(block.calls) and all(call.kind in _CHEAP for call in block.calls)
    return block.kind in RIDES_ALONG or (block.kind == "region" and cheap)


def absorb_next(
    steps: tuple[Step, ...], layout: tuple[LayoutItem, ...], kinds: Mapping[str, BlockKind]
) -> Laid:
    """Merge the next step into a first step without work of its own: its container runs anyway.

    The merged step keeps the entry of the first step and is otherwise the next step, including its
    name.
    """
    first = steps[0]
    following = [name for name in first.exits if name is not None]
    busy = any(kinds[name] not in IDLE for name in first.blocks)
    # After the answer, the run continues at another step, which must find the next step unmerged.
    asks = any(step.entry in first.blocks for step in steps[1:])
    if busy or asks or len(following) != 1:
        return steps, layout
    taken = next(step for step in steps if step.name == following[0])
    exits = {*first.exits, *taken.exits} - {taken.name}
    order = {step.name: index for index, step in enumerate(steps)}
    merged = replace(
        taken,
        entry=first.entry,
        blocks=(*first.blocks, *(b for b in taken.blocks if b not in first.blocks)),
        exits=tuple(sorted(exits, key=lambda name: len(order) if name is None else order[name])),
        may_wait=first.may_wait or taken.may_wait,
    )
    rest = tuple(step for step in steps[1:] if step is not taken)
    return (merged, *rest), (StepItem(merged.name), *_without(layout[1:], first.name, merged.name))


def _without(items: tuple[LayoutItem, ...], old: str, merged: str) -> tuple[LayoutItem, ...]:
    result: list[LayoutItem] = []
    for item in items:
        if isinstance(item, StepItem) and item.step == merged:
            continue
        if isinstance(item, BranchItem):
            arms = tuple(_without(arm, old, merged) for arm in item.arms)
            decider = merged if item.decider == old else item.decider
            if any(map(_has_steps, arms)):
                result.append(BranchItem(decider, arms, item.span, item.test))
            else:
                result += [inner for arm in arms for inner in arm]
            continue
        result.append(item)
    return tuple(result)


def _after_first(arm: tuple[LayoutItem, ...], span: Span) -> tuple[LayoutItem, ...]:
    """Let the first step of an arm that only its guard selects decide whether the others start."""
    if not arm or not isinstance(arm[0], StepItem) or not _has_steps(arm[1:]):
        return arm
    return (arm[0], BranchItem(arm[0].step, ((), arm[1:]), span))


def _has_steps(items: tuple[LayoutItem, ...]) -> bool:
    return any(not isinstance(item, WaitItem) for item in items)


def is_native(block: DraftBlock, granularity: Granularity, profile: Profile) -> bool:
    """Return whether the calls that a block submits become nodes instead of threads."""
    if block.kind != "fan" or not profile.fan_out:
        return False
    runtimes = {call.options.runtime for call in block.calls if call.options}
    wanted = granularity == "checkpoint" or "isolated" in runtimes
    return wanted and "inline" not in runtimes


def nodes_of(block: DraftBlock, profile: Profile) -> Step:
    """Return the step whose nodes run the calls that a fan submits."""
    options = [call.options for call in block.calls if call.options]
    (joined,) = block.next
    assert joined is not None
    step = Step(
        name=block.items,
        entry=joined.name,
        blocks=(block.name,),
        exits=(),
        span=block.source.span(block.place),
        resources=resources(block),
        isolated=isolated(block),
        per_item=profile.fan_out,
    )
    return retrying(step, options, profile)


def takes_in(element: Place | Fork) -> bool:
    """Return whether the gathering step can also run the next block. Its container runs anyway."""
    if isinstance(element, Fork):
        return False
    block = element.block
    return block.kind not in ("wait", "fan") and not isolated(block) and not asks(block)


def asks(block: DraftBlock) -> bool:
    """Return whether a block requests resources."""
    wanted = resources(block)
    return bool(wanted.cpu or wanted.memory or wanted.gpu)
