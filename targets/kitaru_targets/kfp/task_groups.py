"""Turn a layout into tasks and groups, some of them conditional.

Control runs along *lines*. A line belongs to a group. As soon as the flow may have ended or been
suspended on it, the following steps become a *segment*: a group next to it, conditional on an
output of one step that always ran. Segments are siblings, so their number adds no depth. An `if`
becomes a *wrapper* that always runs and contains one conditional group per arm. Later steps depend
on the wrapper alone, because a task that depends on a skipped group would be dropped silently.

The calls of a fan-out are a *loop*: a group that runs once for each item of a list, next to the
step that created the list. It needs no condition, because the list is empty if the flow has ended.

If the flow may have ended inside an arm, no step outside can know it. The next step is then a
*gate*: it starts, checks by its guard that there is no work to do, and reports it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from kitaru.wire.plan import BranchItem, FanItem, LayoutItem, Plan, Span, Step, StepItem, WaitItem
from kitaru.wire.structs import Struct
from kitaru_targets.common import branches
from kitaru_targets.common.node_names import Keys
from kitaru_targets.kfp.conditions import Comparison

# The list of a fan-out. Local runners of the vendors require this name.
LIST = "Output"
Output = Literal["next", "status", "Output"]


class Channel(Struct):
    """An output of a task, under its name as an input of every reader."""

    task: str
    output: Output

    @property
    def name(self) -> str:
        hyphens = "-" if self.output == LIST else "--"
        return f"pipelinechannel--{self.task}{hyphens}{self.output}"


@dataclass(slots=True)
class Task:
    """A step at its place in a group."""

    key: str
    step: Step
    needs: tuple[str, ...]


class Loop(Struct):
    """The iteration of a group, `parallel` at a time: over the list in a channel, or `items`."""

    channel: Channel | None
    items: tuple[str, ...]
    parallel: int


@dataclass(slots=True)
class Group:
    """A group of tasks: the root, a segment, a wrapper or an arm of a branch, or a loop.

    `channels` are the outputs of outside tasks that the group or its children read. `exposes` is
    the inner task whose outputs its siblings can read. `when` is the condition for a reader.
    """

    key: str
    kind: Literal["root", "segment", "branch", "arm", "loop"]
    parent: Group | None
    span: Span | None = None
    needs: tuple[str, ...] = ()
    tests: tuple[Comparison, ...] = ()
    children: list[Task | Group] = field(default_factory=list)
    channels: dict[Channel, None] = field(default_factory=dict)
    exposes: dict[Output, str] = field(default_factory=dict)
    loop: Loop | None = None
    when: str = ""

    def groups(self) -> Iterator[Group]:
        """Yield this group and every group in it, parents first."""
        yield self
        for child in self.children:
            if isinstance(child, Group):
                yield from child.groups()

    def tasks(self) -> Iterator[Task]:
        """Yield the tasks in this group and in its children, in program order."""
        for child in self.children:
            if isinstance(child, Task):
                yield child
            else:
                yield from child.tasks()


@dataclass(slots=True)
class _Line:
    """The state of a line: `home` contains its segments, `group` the next task.

    `decider` is the step whose outputs show whether control came this far. `ended` are the steps
    that certainly lead to an end. `unknown` means that it may have ended inside an arm.
    """

    home: Group
    group: Group
    last: str = ""
    decider: str = ""
    ended: tuple[str, ...] = ()
    unknown: bool = False
    may_end: bool = False


def build(plan: Plan, *, longest: int) -> Group:
    """Return the root group for a plan; keys have at most `longest` characters."""
    builder = _Builder(plan, Keys(longest=longest))
    root = Group("root", "root", None)
    builder.walk(_Line(root, root), plan.layout)
    return root


class _Builder:
    def __init__(self, plan: Plan, keys: Keys) -> None:
        self._parallel = plan.max_parallel
        self._steps = {step.name: step for step in plan.steps}
        self._keys = keys
        # Steps get their keys before groups, so that a node has the name of its checkpoint.
        self._key = {step.name: keys.take(step.name, fallback="step") for step in plan.steps}
        self._place: dict[str, Group] = {}

    def walk(self, line: _Line, items: Sequence[LayoutItem]) -> None:
        for item in items:
            match item:
                case StepItem(name):
                    self._step(line, self._steps[name])
                case WaitItem():
                    # It runs at the end of the previous step, which declares this with `may_wait`.
                    line.may_end = True
                case FanItem():
                    self._loop(line, item)
                case BranchItem():
                    self._branch(line, item)

    def _step(self, line: _Line, step: Step) -> None:
        self._enter_segment(line)
        self._add(line, step)
        if line.unknown or _may_end(step):
            line.decider, line.ended, line.unknown = step.name, (), False
        line.may_end = line.may_end or _may_end(step)

    def _add(self, line: _Line, step: Step) -> None:
        task = Task(self._key[step.name], step, (line.last,) if line.last else ())
        line.group.children.append(task)
        self._place[step.name] = line.group
        line.last = task.key

    def _loop(self, line: _Line, item: FanItem) -> None:
        key = self._keys.take(f"each-{self._key[item.fan]}", fallback="each")
        step = self._steps[item.fan]
        channel = self._channel(line.group, item.producer, "Output") if item.producer else None
        before = [item.producer and self._key[item.producer], line.last]
        needs = tuple(key for key in dict.fromkeys(before) if _is_child(line.group, key))
        group = Group(key, "loop", line.group, step.span, needs)
        group.loop = Loop(channel, item.items, self._parallel)
        if channel:
            _read(group, [channel])
        line.group.children.append(group)
        group.children.append(Task(self._key[step.name], step, ()))
        line.last = key

    def _enter_segment(self, line: _Line) -> None:
        """Start a segment for the following steps if a step has reported whether any follow."""
        if not line.decider:
            return
        key = self._keys.take(f"after-{self._key[line.decider]}", fallback="after")
        segment = Group(key, "segment", line.home, self._steps[line.decider].span)
        channels = [self._channel(line.home, line.decider, "status")]
        tests = [Comparison(channels[0].name, ("go",))]
        if line.ended:
            channels.append(self._channel(line.home, line.decider, "next"))
            tests.append(Comparison(channels[1].name, line.ended, negated=True))
        before = line.last if line.group is line.home else line.group.key
        here = [c.task for c in channels if _is_child(line.home, c.task)]
        segment.tests, segment.needs = tuple(tests), tuple(dict.fromkeys([*here, before]))
        _read(segment, channels)
        line.home.children.append(segment)
        line.group, line.last, line.decider, line.ended = segment, "", "", ()

    def _branch(self, line: _Line, item: BranchItem) -> None:
        arms = [arm for arm in branches.arms(item) if any(True for _ in _steps_in(arm.items))]
        if not arms:
            return
        if not item.decider or not self._visible(line, item.decider):
            self._guarded(line, arms)
            return
        if line.decider not in ("", item.decider):
            self._enter_segment(line)
        self._wrapper(line, item, arms)

    def _wrapper(self, line: _Line, item: BranchItem, arms: list[branches.Arm]) -> None:
        decider = item.decider or ""
        key = self._keys.take(branches.name(item), fallback="if")
        needs = (line.last,) if line.last else ()
        wrapper = Group(key, "branch", line.group, item.span, needs, when=f"if {item.test}".strip())
        line.group.children.append(wrapper)
        line.last = wrapper.key
        for arm in arms:
            names = tuple(_steps_in(arm.items))
            end = self._arm(wrapper, decider, arm, names)
            line.may_end = line.may_end or end.may_end
            if self._surely_ends(arm.items):
                line.ended = (*(line.ended if line.decider else ()), *names)
                line.decider = decider
            else:
                line.unknown = line.unknown or end.may_end

    def _arm(
        self, wrapper: Group, decider: str, arm: branches.Arm, names: tuple[str, ...]
    ) -> _Line:
        channel = self._channel(wrapper, decider, "next")
        key = self._keys.take(arm.name, fallback="arm")
        group = Group(key, "arm", wrapper, wrapper.span, when=arm.when)
        group.tests = (Comparison(channel.name, names),)
        _read(group, [channel])
        wrapper.children.append(group)
        line = _Line(group, group)
        self.walk(line, arm.items)
        return line

    def _guarded(self, line: _Line, arms: list[branches.Arm]) -> None:
        """Emit the arms one after the other: if several steps decide, guards must select."""
        self._enter_segment(line)
        for item in (item for arm in arms for item in arm.items):
            match item:
                case FanItem():
                    self._loop(line, item)
                case StepItem(name):
                    self._add(line, self._steps[name])
                    line.unknown = line.unknown or _may_end(self._steps[name])
                case BranchItem():
                    self._branch_under_guard(line, item)
        line.may_end = line.may_end or line.unknown

    def _branch_under_guard(self, line: _Line, item: BranchItem) -> None:
        self._branch(line, item)
        # A step that may not have been selected decides nothing for the later steps.
        line.unknown = line.unknown or bool(line.decider)
        line.decider, line.ended = "", ()

    def _surely_ends(self, arm: tuple[LayoutItem, ...]) -> bool:
        last = arm[-1]
        return isinstance(last, StepItem) and self._steps[last.step].exits == (None,)

    def _visible(self, line: _Line, step: str) -> bool:
        place = self._place.get(step)
        group: Group | None = line.group
        while group is not None and group is not place:
            group = group.parent
        return place is not None and group is place

    def _channel(self, group: Group, step: str, output: Output) -> Channel:
        """Return a step's output as seen from `group`: through the segment that contains it."""
        place = self._place[step]
        if place.parent is group and place.kind == "segment":
            place.exposes[output] = self._key[step]
            return Channel(place.key, output)
        return Channel(self._key[step], output)


def _read(group: Group, channels: Sequence[Channel]) -> None:
    """Pass the channels from their producers to `group`."""
    for channel in channels:
        reader: Group | None = group
        while reader is not None and not _is_child(reader, channel.task):
            reader.channels[channel] = None
            reader = reader.parent


def _is_child(group: Group, key: str) -> bool:
    return any(child.key == key for child in group.children)


def _may_end(step: Step) -> bool:
    return step.may_wait or None in step.exits


def _steps_in(items: Sequence[LayoutItem]) -> Iterator[str]:
    for item in items:
        match item:
            case StepItem(name):
                yield name
            case BranchItem(_, arms):
                for arm in arms:
                    yield from _steps_in(arm)
            case WaitItem():
                pass
