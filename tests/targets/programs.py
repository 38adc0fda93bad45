"""Test programs: small control flow, its plan, and every path through it.

A program is a line of steps and branches. From it come a plan, as the compiler would make it, and
the paths that an execution can take; a fake runtime then plays one path against a document.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from kitaru_targets.base import ContainerSpec
from kitaru_targets.kfp.dry_run import Call

from kitaru.wire.plan import (
    Block,
    BlockKind,
    BranchItem,
    FanItem,
    LayoutItem,
    Parameter,
    Plan,
    Resources,
    Span,
    Step,
    StepItem,
    WaitItem,
)

WIRING = ContainerSpec(
    "python:3.11-slim", ("python3", "-c", "pass"), ("step",), "sqlite:/tmp/x.db", {}
)


@dataclass(frozen=True)
class Do:
    """A step. `end` says whether the flow may return at its tail, `wait` whether it may suspend.

    One that `gathers` waits for calls that the step before it submitted, each a node of its own.
    """

    name: str
    end: Literal["no", "maybe", "always"] = "no"
    wait: bool = False
    retries: int = 0
    resources: Resources = field(default_factory=Resources)
    gathers: bool = False


@dataclass(frozen=True)
class If:
    """A branch; an arm may be empty."""

    arms: tuple[tuple[Do | If, ...], ...]


Program = tuple[Do | If, ...]
# Visited steps in order, each with whether the execution ended or was suspended at its tail.
Path = tuple[tuple[str, Literal["go", "end", "waiting"]], ...]


def span(line: int) -> Span:
    return Span("flow.py", line, 1, line, 9)


def paths(program: Program) -> Iterator[Path]:
    """Yield every path; the last step of one that falls off the end counts as `end`."""
    for path, stopped in _paths(program):
        yield path if stopped else (*path[:-1], (path[-1][0], "end"))


def _paths(items: Program) -> Iterator[tuple[Path, bool]]:
    if not items:
        yield (), False
        return
    first, rest = items[0], items[1:]
    for head, stopped in _first(first):
        if stopped:
            yield head, True
            continue
        for tail, ended in _paths(rest):
            yield (*head, *tail), ended


def _first(item: Do | If) -> Iterator[tuple[Path, bool]]:
    if isinstance(item, If):
        for arm in item.arms:
            yield from _paths(arm)
        return
    if item.end != "always":
        yield ((item.name, "go"),), False
    if item.end != "no":
        yield ((item.name, "end"),), True
    if item.wait:
        yield ((item.name, "waiting"),), True


def plan(
    program: Program,
    *,
    parameters: tuple[Parameter, ...] = (),
    options: Mapping[str, str] | None = None,
) -> Plan:
    """Return the plan of a program that starts with a step, with one block for each step.

    With `options` of the target, a wait is a separate block, and a separate step, `<name>_answer`,
    continues after it.
    """
    exits: dict[str, dict[str | None, None]] = {}
    for path in paths(program):
        for (name, status), following in zip(path, (*path[1:], None), strict=True):
            if status != "waiting":
                exits.setdefault(name, {})[following[0] if following else None] = None
    lines = {do.name: line for line, do in enumerate(dos(program), 10)}
    layout = tuple(_layout(program, None, lines, asks=bool(options)))
    submits: dict[str, list[str]] = {}
    for gatherer, (_, producer) in fans(layout).items():
        submits.setdefault(producer, []).append(f"submit_{gatherer}")
    steps = tuple(
        Step(
            name=name,
            entry=entry,
            blocks=(
                entry,
                *([f"wait_{do.name}"] if options and do.wait else ()),
                *submits.get(do.name, ()),
            ),
            exits=tuple(exits.get(do.name, {})),
            span=span(lines[do.name]),
            may_wait=do.wait,
            retries=do.retries,
            retry="native",
            resources=do.resources,
        )
        for do in dos(program)
        for name, entry in (
            (do.name, do.name),
            *([(f"{do.name}_answer", f"wait_{do.name}")] if options and do.wait else ()),
        )
    )
    nodes = tuple(
        Step(fan, gatherer, (f"submit_{gatherer}",), (), span(lines[gatherer]), per_item=10)
        for gatherer, (fan, _) in fans(layout).items()
    )
    return Plan(
        flow="some_flow",
        module="flow",
        file="flow.py",
        line=8,
        doc="",
        kitaru="0.1.0",
        granularity="checkpoint",
        parameters=parameters,
        blocks=tuple(
            Block(i, s.entry, _kind(s), s.exits, (), s.span, (s.name,)) for i, s in enumerate(steps)
        ),
        steps=(*steps, *nodes),
        layout=layout,
        options={**(options or {})},
    )


def _kind(step: Step) -> BlockKind:
    return "checkpoint" if step.name == step.entry else "wait"


def dos(program: Program) -> Iterator[Do]:
    for item in program:
        if isinstance(item, Do):
            yield item
        else:
            for arm in item.arms:
                yield from dos(arm)


def _layout(
    items: Program, decider: str | None, lines: Mapping[str, int], *, asks: bool
) -> Iterator[LayoutItem]:
    line = 0
    for item in items:
        if isinstance(item, Do):
            if item.gathers and decider:
                yield FanItem(f"each_{item.name}", decider)
            decider, line = item.name, lines[item.name]
            yield StepItem(item.name)
            if item.wait:
                yield WaitItem(f"wait_{item.name}")
                if asks:
                    yield StepItem(f"{item.name}_answer")
        else:
            arms = tuple(tuple(_layout(arm, decider, lines, asks=asks)) for arm in item.arms)
            yield BranchItem(decider, arms, span(line))
            # Steps of the arms decide what follows, unless no arm has a step.
            decider = None if any(dos((item,))) else decider


def fans(layout: tuple[LayoutItem, ...]) -> dict[str, tuple[str, str]]:
    """Return, by the step that gathers, the step with the nodes and the list's producer."""
    found = {}
    for item in layout:
        if isinstance(item, FanItem):
            found[item.fan.removeprefix("each_")] = item.fan, item.producer
        elif isinstance(item, BranchItem):
            for arm in item.arms:
                found |= fans(arm)
    return found


class Played:
    """A fake runtime that plays one path. `together` are steps that run in their predecessor.

    A cut before such a step was elided: the step before it does its work, and the step itself, when
    the document starts it, passes on the pointer. `producers` make the list that a step gathers.
    """

    def __init__(
        self,
        path: Path,
        together: frozenset[str] = frozenset(),
        producers: Mapping[str, str] | None = None,
    ) -> None:
        self.producers = producers or {}
        self.items: list[tuple[str, str]] = []
        self.path = [name for name, _ in path]
        self.own = [name for name in self.path if name not in together]
        self.last = path[-1][1]
        self.ran: list[str] = []
        self.idle: list[str] = []

    def __call__(self, call: Call) -> Mapping[str, str]:
        name = call.inputs["step"]
        if "item" in call.inputs:
            return self.make(name.removeprefix("each_"), call.inputs["item"])
        return self.start(name)

    def start(self, name: str) -> Mapping[str, str]:
        """Return what the step called `name` says when the document starts it now."""
        expected = self.own[len(self.ran)] if len(self.ran) < len(self.own) else None
        if name == expected:
            if name in self.producers:
                assert sorted(i for n, i in self.items if n == name) == ["0", "1"]
            self.ran.append(name)
            return self._outputs(name)
        self.idle.append(name)
        started = name in self.path and self.path.index(name) < self.path.index(self.ran[-1])
        passed = name in self.path and self._following(name) and self._had(name)
        if passed or started:
            return self._outputs(name)
        return {"next": "end", "status": "skip", "Output": "[]"}

    def make(self, gatherer: str, item: str) -> Mapping[str, str]:
        """Take note of a node of the fan-out that a step gathers."""
        assert gatherer in self.own and gatherer not in self.ran
        self.items.append((gatherer, item))
        return {}

    def _had(self, name: str) -> bool:
        """Return whether the step that did this one's work has run."""
        index = self.path.index(name)
        owner = next(n for n in reversed(self.path[: index + 1]) if n in self.own)
        return owner in self.ran

    def _following(self, name: str) -> str | None:
        after = self.path[self.path.index(name) + 1 :]
        return next((n for n in after if n in self.own), None)

    def _outputs(self, name: str) -> Mapping[str, str]:
        following = self._following(name)
        if following is not None:
            items = '["0", "1"]' if self.producers.get(following) == name else "[]"
            return {"next": following, "status": "go", "Output": items}
        return {"next": "end", "status": self.last, "Output": "[]"}
