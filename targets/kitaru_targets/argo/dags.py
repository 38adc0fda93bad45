"""Turn a layout into DAG templates: tasks in order, some of them conditional.

A task that is skipped counts as met for the tasks behind it. So an `if` is one task per arm, with a
condition on the step that decides, and the next task simply depends on all arms. An arm of several
steps is a template of its own.

A condition asks only steps that always run in the same template, or in one around it, because
older controllers fail on an output of a skipped task. As soon as the flow may have ended, the
following tasks have a condition. If one of them is asked in turn, all of them move into a template
of their own, *after* the step that may have ended the flow. If it may have ended inside an arm, no
step outside can know it. The next step is then a *gate*: its guard finds that there is no work.

A wait is a suspended node between the step that asks and the step that reads the answer. A wait
inside a step, such as one in a loop, is a template of *rounds*: the step, the suspended node, and
the template again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kitaru.wire.plan import BranchItem, FanItem, LayoutItem, Plan, Span, Step, StepItem, WaitItem
from kitaru_targets.argo.conditions import Comparison
from kitaru_targets.argo.profile import MAX_DEPTH, MAX_KEY
from kitaru_targets.common import branches, chain
from kitaru_targets.common.node_names import Keys

NEXT, STATUS, ITEMS, SECONDS, ROUND = "next", "status", "items", "seconds", "round"
GO, WAITING, END = "go", "waiting", "end"
# The language of `depends` gives these words a meaning, and names of tasks stand in it.
_WORDS = ("nil", "true", "false", "not", "and", "or", "in", "matches", "contains", "let", "if",
          "else", "env")  # fmt: skip


@dataclass(slots=True)
class Task:
    """A task of a DAG.

    It runs a step, waits for an answer, or runs the tasks of a `template`. `each` is the list of a
    fan-out: the reference to it, or JSON. `arguments` are further inputs of the template.
    """

    key: str
    needs: tuple[str, ...]
    tests: tuple[Comparison, ...] = ()
    step: Step | None = None
    template: Dag | None = None
    each: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
    note: str = ""
    span: Span | None = None

    @property
    def is_wait(self) -> bool:
        return self.step is None and self.template is None


@dataclass(slots=True)
class Dag:
    """A template with tasks. `inputs` are its parameters, `rounds` whether it runs itself again."""

    key: str
    parent: Dag | None
    tasks: list[Task] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    caller: Task | None = None
    rounds: bool = False

    @property
    def depth(self) -> int:
        return 0 if self.parent is None else 1 + self.parent.depth


@dataclass(slots=True)
class _Line:
    """The way of control through a template.

    `last` are the tasks before the next one. `tests` are the condition for control to be here.
    `unknown` means that the flow may have ended where no condition can see it, `may_end` that it
    may have ended at all. In a `guarded` line, steps start that may have no work at all.
    """

    dag: Dag
    last: tuple[str, ...] = ()
    tests: tuple[Comparison, ...] = ()
    unknown: bool = False
    may_end: bool = False
    guarded: bool = False


def build(plan: Plan, name: str, templates: Keys) -> list[Dag]:
    """Return the DAG templates of a plan, the first of which is the entry point called `name`.

    `templates` assigns the names of templates.
    """
    builder = _Builder(plan, name, templates)
    builder.walk(_Line(builder.dags[0]), plan.layout)
    return builder.dags


class _Builder:
    def __init__(self, plan: Plan, name: str, templates: Keys) -> None:
        self._plan = plan
        self._steps = {step.name: step for step in plan.steps}
        self._tasks = Keys(longest=MAX_KEY)
        self._templates = templates
        for word in _WORDS:
            self._tasks.take(word, fallback="task")
        # Steps get their keys before groups, so that a node has the name of its checkpoint.
        self._key = {s.name: self._tasks.take(s.name, fallback="step") for s in plan.steps}
        self._place: dict[str, Dag] = {}
        self._shown: dict[str, str] = {}
        self._askers = {
            step.name: [s.name for s in plan.steps if step.entry in s.blocks and s is not step]
            for step in plan.steps[1:]
            if plan.block(step.entry).kind == "wait"
        }
        self.dags = [Dag(self._templates.take(name, fallback="flow"), None)]

    def walk(self, line: _Line, items: Sequence[LayoutItem]) -> None:
        for index, item in enumerate(items):
            if self._needs_template(line, items[index:]):
                self._nest(line, items[index:])
                return
            match item:
                case StepItem(name):
                    self._step(line, self._steps[name], items[index + 1 :])
                case WaitItem():
                    self._wait(line, items[index + 1 :])
                case FanItem():
                    self._fan(line, item)
                case BranchItem():
                    self._branch(line, item)

    def _needs_template(self, line: _Line, rest: Sequence[LayoutItem]) -> bool:
        """Return whether a step that runs only on a condition is asked by a later task."""
        if not line.tests or line.dag.depth >= MAX_DEPTH:
            return False
        asked: set[str] = set()
        for index, item in enumerate(rest):
            last = index + 1 == len(rest)
            match item:
                case StepItem(name) if not last and (
                    None in self._steps[name].exits or (index == 0 and line.unknown)
                ):
                    asked.add(name)
                case FanItem(producer=producer):
                    asked.add(producer)
                case BranchItem(decider=decider) if decider:
                    asked.add(decider)
                case WaitItem():
                    following = rest[index + 1] if not last else None
                    if isinstance(following, StepItem):
                        asked |= {*self._askers.get(following.step, ())}
        return any(isinstance(item, StepItem) and item.step in asked for item in rest)

    def _nest(self, line: _Line, rest: Sequence[LayoutItem]) -> None:
        key = self._tasks.take(f"after-{self._shown[line.tests[0].step]}", fallback="after")
        inner = self._template(line, key, "the steps after it, if the flow continues")
        self.walk(inner, rest)
        line.unknown = line.unknown or inner.may_end
        line.may_end = line.may_end or inner.may_end

    def _template(
        self, line: _Line, key: str, note: str, span: Span | None = None, rounds: bool = False
    ) -> _Line:
        """Add a task with a template of its own under the line's condition; return its line."""
        dag = Dag(self._templates.take(key, fallback="part"), line.dag, rounds=rounds)
        self._add(line, Task(key, line.last, line.tests, template=dag, note=note, span=span))
        dag.caller = line.dag.tasks[-1]
        self.dags.append(dag)
        return _Line(dag, unknown=line.unknown, guarded=line.guarded)

    def _add(self, line: _Line, task: Task) -> None:
        task.tests = tuple(self._resolved(line.dag, test) for test in task.tests)
        line.dag.tasks.append(task)
        line.last = (task.key,)

    def _resolved(self, dag: Dag, test: Comparison) -> Comparison:
        return test.replace(value=self._value(dag, test.step, test.output))

    def _step(self, line: _Line, step: Step, rest: Sequence[LayoutItem]) -> None:
        inside = _waits_inside(self._plan, step, self._askers)
        if inside or self._is_probe(line, step):
            self._rounds(line, step)
            if not self._is_asked(line, step, rest):
                line.unknown = line.unknown or None in step.exits
                line.may_end = line.may_end or None in step.exits
                return
            # A step that is started again says the same, so that later tasks can ask it.
            self._start(line, step, self._tasks.take(f"{self._key[step.name]}-done", fallback="x"))
        else:
            self._start(line, step, self._key[step.name])
        ends = None in step.exits
        line.may_end = line.may_end or ends
        if not (ends or line.unknown):
            return
        if self._sees(line.dag, step.name) and not line.guarded:
            alive = (GO, WAITING) if self._asks(step) else (GO,)
            line.tests, line.unknown = (self._test(step, STATUS, alive),), False
        else:
            line.unknown = line.unknown or ends

    def _start(self, line: _Line, step: Step, key: str) -> None:
        always = not line.tests
        self._add(line, Task(key, line.last, line.tests, step, span=step.span))
        if always:
            self._place[step.name] = line.dag
            self._shown[step.name] = key

    def _asks(self, step: Step) -> bool:
        return any(step.name in askers for askers in self._askers.values())

    def _is_asked(self, line: _Line, step: Step, rest: Sequence[LayoutItem]) -> bool:
        for item in rest:
            match item:
                case FanItem(producer=step.name) | BranchItem(decider=step.name):
                    return True
        may_end = line.unknown or None in step.exits
        return self._asks(step) or (may_end and bool(chain.steps_in(rest)))

    def _is_probe(self, line: _Line, step: Step) -> bool:
        """Return whether a step reads an answer that a step asked for which no task can see."""
        askers = self._askers.get(step.name, ())
        return bool(askers) and self._asker(line, step) is None

    def _asker(self, line: _Line, step: Step) -> Step | None:
        """Return the step that says whether the answer that `step` reads is asked for.

        A step that has an answer already continues to the next question. So several may ask, and
        the last of them says where control is. None if a task cannot see all of them.
        """
        askers = self._askers.get(step.name, ())
        if askers and all(self._sees(line.dag, asker) for asker in askers):
            return self._steps[askers[-1]]
        return None

    def _wait(self, line: _Line, rest: Sequence[LayoutItem]) -> None:
        reader = rest[0] if rest else None
        if not isinstance(reader, StepItem) or reader.step not in self._askers:
            # It runs inside the step before it.
            return
        step = self._steps[reader.step]
        asker = self._asker(line, step)
        if asker is None:
            return
        tests = (self._test(asker, STATUS, (WAITING,)), self._test(asker, NEXT, (step.name,)))
        block = self._plan.block(step.entry)
        key = self._tasks.take(block.name, fallback="wait")
        until = {SECONDS: self._value(line.dag, asker.name, SECONDS)}
        self._add(line, Task(key, line.last, tests, arguments=until, span=block.span))

    def _rounds(self, line: _Line, step: Step) -> None:
        key = self._tasks.take(f"{self._key[step.name]}-rounds", fallback="rounds")
        inner = self._template(line, key, "again after each answer", step.span, rounds=True)
        dag = inner.dag
        dag.inputs.append(ROUND)
        assert dag.caller is not None
        dag.caller.arguments[ROUND] = "1"
        name = self._key[step.name]
        self._add(inner, Task(name, (), (), step, span=step.span))
        waits = tuple(
            Comparison(step.name, output, (word,), value=_output(name, output))
            for output, word in ((STATUS, WAITING), (NEXT, END))
        )
        wait = self._tasks.take(f"{name}-wait", fallback="wait")
        until = {SECONDS: _output(name, SECONDS)}
        dag.tasks.append(Task(wait, inner.last, waits, arguments=until, span=step.span))
        again = self._tasks.take(f"{name}-again", fallback="again")
        dag.tasks.append(Task(again, (wait,), waits, template=dag, span=step.span))

    def _fan(self, line: _Line, item: FanItem) -> None:
        step = self._steps[item.fan]
        if item.producer and not self._sees(line.dag, item.producer):
            return  # The step behind makes the calls that no node made.
        each, tests = json.dumps([*item.items]), tuple[Comparison, ...]()
        if item.producer:
            # A process that continued further may have made another list.
            (gatherer,) = (
                s.name for s in self._plan.steps if s.entry == step.entry and not s.per_item
            )
            each = self._value(line.dag, item.producer, ITEMS)
            tests = (self._test(self._steps[item.producer], NEXT, (gatherer,)),)
        task = Task(self._key[step.name], line.last, tests, step, each=each, span=step.span)
        self._add(line, task)
        (key,) = line.last
        line.last = (f"({key} || {key}.Failed || {key}.Errored)",)

    def _branch(self, line: _Line, item: BranchItem) -> None:
        arms = [arm for arm in branches.arms(item) if chain.steps_in(arm.items)]
        sees = bool(item.decider) and self._sees(line.dag, item.decider or "")
        if arms and sees and line.dag.depth < MAX_DEPTH:
            self._arms(line, item, arms)
        else:
            self._guarded(line, arms)

    def _arms(self, line: _Line, item: BranchItem, arms: Sequence[branches.Arm]) -> None:
        decider = self._steps[item.decider or ""]
        before, tests, ends = line.last, line.tests, list[str]()
        others = tuple(test for test in tests if test.step != decider.name)
        unknown, ended = line.unknown, list[str]()
        for arm in arms:
            names = tuple(n for n in chain.steps_in(arm.items) if not self._steps[n].per_item)
            line.last, line.tests = before, (*others, self._test(decider, NEXT, names))
            line.unknown = unknown
            surely = _surely_ends(self._plan, arm.items)
            may_end = self._arm(line, item, arm)
            ends += line.last
            line.may_end = line.may_end or may_end
            if surely and not line.guarded:
                ended += names
            else:
                unknown = unknown or may_end
        line.last, line.tests, line.unknown = tuple(ends), tests, unknown
        if ended:
            line.tests = (*tests, self._test(decider, NEXT, tuple(ended), negated=True))

    def _arm(self, line: _Line, item: BranchItem, arm: branches.Arm) -> bool:
        """Add an arm: a task if it is one step, otherwise a template. Return whether it may end."""
        match arm.items:
            case (StepItem(name),) if not _waits_inside(
                self._plan, self._steps[name], self._askers
            ) and not self._is_probe(line, self._steps[name]):
                step = self._steps[name]
                self._start(line, step, self._key[name])
                return None in step.exits
        key = self._tasks.take(arm.name, fallback="arm")
        inner = self._template(line, key, arm.when, item.span)
        # Control is certainly here.
        inner.guarded = inner.unknown = False
        self.walk(inner, arm.items)
        return inner.may_end

    def _guarded(self, line: _Line, arms: Sequence[branches.Arm]) -> None:
        """Add the arms one after the other: if several steps decide, guards must select."""
        was, tests = line.guarded, line.tests
        line.guarded = True
        for arm in arms:
            self.walk(line, arm.items)
            line.tests = tests
        line.guarded = was
        line.unknown = line.unknown or line.may_end

    def _sees(self, dag: Dag, step: str) -> bool:
        """Return whether a step always runs in a template, or before it in one around it."""
        place, reader = self._place.get(step), dag
        while reader is not place and reader.parent is not None:
            reader = reader.parent
        return reader is place

    def _test(
        self, step: Step, output: str, words: tuple[str, ...], *, negated: bool = False
    ) -> Comparison:
        return Comparison(step.name, output, words, negated)

    def _value(self, dag: Dag, step: str, output: str) -> str:
        """Return the reference to a step's output, passed on through the templates around it."""
        if self._place[step] is dag:
            return _output(self._shown[step], output)
        name = f"{self._shown[step]}-{output}"
        if name not in dag.inputs:
            assert dag.parent is not None and dag.caller is not None
            dag.inputs.append(name)
            dag.caller.arguments[name] = self._value(dag.parent, step, output)
        return f"{{{{inputs.parameters.{name}}}}}"


def _output(task: str, output: str) -> str:
    return f"{{{{tasks.{task}.outputs.parameters.{output}}}}}"


def _waits_inside(plan: Plan, step: Step, askers: Mapping[str, Sequence[str]]) -> bool:
    """Return whether a run may wait in a step so that the same step has to start again."""
    inside = [block for block in plan.blocks if block.name in step.blocks]
    if any(block.may_wait and block.kind != "wait" for block in inside):
        return True
    reads = plan.block(step.entry).kind == "wait"
    return step.may_wait and not reads and not any(step.name in names for names in askers.values())


def _surely_ends(plan: Plan, arm: Sequence[LayoutItem]) -> bool:
    last = arm[-1]
    return isinstance(last, StepItem) and plan.step(last.step).exits == (None,)
