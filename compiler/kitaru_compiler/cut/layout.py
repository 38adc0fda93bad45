"""Decides which blocks start a step, and how the steps stand to one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kitaru.wire.plan import (
    BlockKind,
    BranchItem,
    Granularity,
    LayoutItem,
    Resources,
    RetryMode,
    Step,
    StepItem,
    WaitItem,
)
from kitaru_compiler.cut.draft import DraftBlock, Fork, Place
from kitaru_compiler.cut.profile import Profile
from kitaru_compiler.frontend.source import Source

Laid = tuple[tuple[Step, ...], tuple[LayoutItem, ...]]

# Cheap calls ride along at the tail of the step before; a wait never holds a container.
RIDES_ALONG = frozenset({"wait", "log", "memory", "join"})
IDLE = RIDES_ALONG | {"entry"}


@dataclass
class Cutter:
    """Chooses the entries of steps for one granularity and profile."""

    blocks: list[DraftBlock]
    source: Source
    granularity: Granularity
    profile: Profile
    entries: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.successors = [
            [None if target is None else target.index for target in block.next]
            for block in self.blocks
        ]

    def cut(self, structure: list[Place | Fork]) -> Laid:
        """Return the steps in program order and their layout."""
        start = self.blocks[0]
        self.entries = {start.index: start.name}
        inner, _ = self._items(structure, start.name, start)
        layout: tuple[LayoutItem, ...] = (StepItem(start.name), *inner)
        steps = tuple(self._step(self.blocks[index]) for index in sorted(self.entries))
        return absorb_next(steps, layout, {block.name: block.kind for block in self.blocks})

    def _items(
        self, structure: list[Place | Fork], decider: str | None, last: DraftBlock | None
    ) -> tuple[tuple[LayoutItem, ...], str | None]:
        """Lay out one sequence; return it and the step that alone decides what follows."""
        items: list[LayoutItem] = []
        for element in structure:
            if isinstance(element, Fork) and element.certain:
                # `if …: return` and the rest: the decider's status says whether the flow goes on.
                inner, decider = self._items(
                    [p for arm in element.arms for p in arm], decider, last
                )
                items += inner
                last = None
                continue
            if isinstance(element, Fork):
                arms = tuple(self._items(arm, decider, None)[0] for arm in element.arms)
                if any(map(_has_steps, arms)):
                    span = self.source.span(element.place)
                    items.append(BranchItem(decider, arms, span))
                    decider, last = None, None
                else:
                    items += [item for arm in arms for item in arm]
                continue
            block = element.block
            if block.kind == "wait":
                items.append(WaitItem(block.name))
                if self.profile.waits == "native":
                    items.append(StepItem(self._after_answer(block)))
                    decider, last = self.entries[block.index], block
                continue
            if rides_along(block) or not self._starts_step(block, last):
                continue
            self.entries[block.index] = block.name
            items.append(StepItem(block.name))
            decider, last = block.name, block
        return tuple(items), decider

    def _after_answer(self, block: DraftBlock) -> str:
        """Give a wait a step of its own, and return its name: the node that asks has the wait's."""
        taken = {other.name for other in self.blocks} | {*self.entries.values()}
        base = name = f"{block.name}_answer"
        number = 1
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        self.entries[block.index] = name
        return name

    def _starts_step(self, block: DraftBlock, last: DraftBlock | None) -> bool:
        if _isolated(block):
            return True
        if _options(block, "runtime") == "inline":
            return False
        if last is not None and _isolated(last):
            return True
        if self.granularity == "single":
            return False
        if self.granularity == "checkpoint" or last is None:
            return True
        return _resources(block) != _resources(last)

    def _cuts(self) -> frozenset[int]:
        """Return where a process surely ends: a wait is asked by the one that comes to it."""
        return frozenset(i for i in self.entries if self.blocks[i].kind != "wait")

    def _step(self, block: DraftBlock) -> Step:
        inside, exits = reachable(self.successors, block.index, self._cuts())
        calls = [call for index in inside for call in self.blocks[index].calls]
        durable = [call for call in calls if call.kind not in RIDES_ALONG]
        single = block.kind == "checkpoint" and len(durable) == 1
        retries = durable[0].options.retries if single and durable[0].options else 0
        retry: RetryMode = self.profile.retry if retries else "shim"
        return Step(
            name=self.entries[block.index],
            entry=block.name,
            blocks=tuple(self.blocks[index].name for index in inside),
            exits=tuple(None if e is None else self.blocks[e].name for e in exits),
            span=self.source.span(block.place),
            may_wait=any(self.blocks[index].may_wait for index in inside),
            retries=retries,
            retry=retry,
            resources=_resources(*(self.blocks[index] for index in inside)),
            isolated=_isolated(block),
        )


def reachable(
    successors: list[list[int | None]], entry: int, entries: frozenset[int]
) -> tuple[list[int], list[int | None]]:
    """Return the blocks one process may run from `entry`, and the entries it may hand on to."""
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
    """Say whether a block needs no step of its own, whatever stands before it."""
    cheap = bool(block.calls) and all(call.kind in ("log", "memory") for call in block.calls)
    return block.kind in RIDES_ALONG or (block.kind == "region" and cheap)


def absorb_next(
    steps: tuple[Step, ...], layout: tuple[LayoutItem, ...], kinds: Mapping[str, BlockKind]
) -> Laid:
    """Let a first step that does nothing of its own take in the next: its container runs anyway.

    The merged step keeps the entry of the first and is otherwise the next one, name included.
    """
    first = steps[0]
    following = [name for name in first.exits if name is not None]
    busy = any(kinds[name] not in IDLE for name in first.blocks)
    # After the answer another step goes on, and it must find the next one where it was.
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
                result.append(BranchItem(decider, arms, item.span))
            else:
                result += [inner for arm in arms for inner in arm]
            continue
        result.append(item)
    return tuple(result)


def _has_steps(items: tuple[LayoutItem, ...]) -> bool:
    return any(not isinstance(item, WaitItem) for item in items)


def _options(block: DraftBlock, name: str) -> object:
    if block.kind != "checkpoint":
        return None
    return getattr(block.calls[0].options, name, None)


def _isolated(block: DraftBlock) -> bool:
    return _options(block, "runtime") == "isolated"


def _resources(*blocks: DraftBlock) -> Resources:
    """Return the most that any checkpoint of the blocks asks for."""
    options = [call.options for block in blocks for call in block.calls if call.options]
    return Resources(
        cpu=max((o.cpu for o in options), key=_cores, default=""),
        memory=max((o.memory for o in options), key=_bytes, default=""),
        gpu=max((o.gpu for o in options), default=0),
    )


def _cores(text: str) -> float:
    try:
        return float(text.removesuffix("m")) / (1000 if text.endswith("m") else 1)
    except ValueError:
        return 0.0


def _bytes(text: str) -> float:
    units = {
        "K": 1e3,
        "M": 1e6,
        "G": 1e9,
        "T": 1e12,
        "Ki": 2**10,
        "Mi": 2**20,
        "Gi": 2**30,
        "Ti": 2**40,
    }
    number = text.rstrip("KMGTi")
    try:
        return float(number) * units.get(text[len(number) :], 1)
    except ValueError:
        return 0.0
