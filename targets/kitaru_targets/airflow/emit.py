"""Write the DAG file for Airflow 3, with branches as branches and their arms as groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kitaru_templates.render import render

from kitaru.wire.plan import BranchItem, FanItem, LayoutItem, Plan, Resources, Span, Step, StepItem
from kitaru.wire.structs import fields_of
from kitaru_targets import delivery
from kitaru_targets.airflow import dag_file, module
from kitaru_targets.airflow.profile import MAX_NAME, OPTIONS, POD_OPTIONS, TASK_OPTIONS
from kitaru_targets.base import ContainerSpec, Emission, Form
from kitaru_targets.common import (
    branches,
    chain,
    kubernetes,
    options,
    parameters,
    schedules,
    variables,
)
from kitaru_targets.common.native_limits import runs_at_once
from kitaru_targets.common.node_names import Keys, slug

_HOUR = 3_600.0
_OF_EVERY_TASK = {"retry_delay": 2.0, "trigger_rule": "none_failed"}
# The tasks before the next one, each with the condition of the way from it.
Tails = dict[str, str]


def emit(plan: Plan, wiring: ContainerSpec) -> Emission:
    """Return `dag.py` for a plan: pods if there is an image, otherwise processes of the worker.

    Raises UsageError if a name or value is not valid in the file.
    """
    declared = parameters.declared(plan, wiring.store, wiring.execution)
    given = _checked(plan)
    pods = bool(wiring.image)
    graph = _Graph(plan, wiring)
    graph.walk(plan.layout, {}, None)
    start = [*wiring.command, *wiring.leading]
    program = delivery.program() in start
    files = {f"{module.name(pods=pods)}.py": module.text(pods=pods)}
    if program:
        files[module.program()] = f"{delivery.program()}\n"
    pod = {
        "image": wiring.image,
        **{n: v for n, v in given.items() if n in POD_OPTIONS},
        **_pod(plan),
    }
    fixed = {
        "header": wiring.about.header,
        "module": module.name(pods=pods),
        "start": start,
        "program": delivery.program() if program else "",
        "program_file": module.program(),
    }
    data = {
        "environment": variables.environment(wiring.environment),
        "options": {**_OF_EVERY_TASK, **{n: v for n, v in given.items() if n in TASK_OPTIONS}},
        "pod": pod if pods else {},
        "dag": {
            "dag_id": _dag_id(plan.flow),
            "description": f"{plan.flow} at {plan.file}:{plan.line}, "
            f"compiled by Kitaru {plan.kitaru}",
            "schedule": _schedule(plan, wiring),
            **({"max_active_runs": most} if (most := runs_at_once(plan, wiring)) else {}),
        },
        "params": [_param(one) for one in declared],
        "tasks": [{"id": one.id, "method": one.method, **one.options} for one in graph.tasks],
    }
    form = Form(data, lambda changed: render(dag_file.TEMPLATE, {**changed, **fixed}))
    return Emission(
        form.text(),
        {task.id: task.id for task in graph.tasks if task.method in ("step", "each")},
        {task.id: task.span for task in graph.tasks if task.method in ("ask", "group")},
        tuple(task.id for task in graph.tasks if task.method == "ask"),
        files,
        form,
    )


def _checked(plan: Plan) -> dict[str, str]:
    """Return the project's options for Airflow; raise UsageError if they are not valid."""
    options.check("airflow", plan.options, OPTIONS)
    return plan.options


def _schedule(plan: Plan, wiring: ContainerSpec) -> dict[str, Any] | None:
    """Return the schedule of the DAG as its module reads it."""
    planned = schedules.native(plan, wiring)
    if planned is None:
        return None
    return {
        "cron": planned.cron,
        "timezone": planned.timezone,
        "one_at_a_time": planned.overlap == "queue",
    }


def _pod(plan: Plan) -> dict[str, Any]:
    """Return the settings of pods as the options of a step."""
    pod = kubernetes.pod(plan)
    found = {
        "secrets": {one.name: [one.secret, one.key] for one in pod.variables},
        "image_pull_secrets": [*pod.image_pull_secrets],
        "node_selector": pod.node_selector,
        "tolerations": [fields_of(one) for one in pod.tolerations],
        "labels": pod.labels,
        "annotations": pod.annotations,
        "secret_volumes": pod.volumes,
    }
    return {name: value for name, value in found.items() if value}


def _dag_id(flow: str) -> str:
    """Return the flow's own name if Airflow accepts it: short and ASCII only."""
    fits = flow.isascii() and len(flow) <= MAX_NAME
    return flow if fits else slug(flow, fallback="flow", longest=MAX_NAME)


@dataclass(frozen=True, slots=True)
class _Task:
    id: str
    method: str
    options: dict[str, Any]
    span: Span


@dataclass
class _Graph:
    """The tasks and groups of a layout in program order, each after the tasks before it."""

    plan: Plan
    wiring: ContainerSpec
    tasks: list[_Task] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._keys = Keys(longest=MAX_NAME)

    def walk(self, items: Sequence[LayoutItem], tails: Tails, group: str | None) -> Tails:
        """Add the tasks of some items after the tasks `tails`; return the last of them."""
        for item in items:
            match item:
                case StepItem(name):
                    tails = self._step(self.plan.step(name), tails, group)
                case FanItem():
                    tails = self._each(item, tails, group)
                case BranchItem(decider=None):
                    # Several steps decide, so each step checks whether it has work.
                    for arm in item.arms:
                        tails = self.walk(arm, tails, group)
                case BranchItem():
                    tails = self._branch(item, tails, group)
        return tails

    def _branch(self, item: BranchItem, tails: Tails, group: str | None) -> Tails:
        ends: Tails = {}
        for arm in branches.arms(item):
            inside, steps = group, chain.steps_in(arm.items)
            if len(steps) > 1:
                inside = self._keys.take(arm.name, fallback="arm")
                tooltip = f"{item.span.file}:{item.span.line} - {arm.when}"
                above = {"inside": group} if group else {}
                self._add(inside, "group", {**above, "tooltip": tooltip}, item.span)
            ways = {t: " and ".join(filter(None, (label, arm.when))) for t, label in tails.items()}
            last = self.walk(arm.items, ways, inside)
            if not steps or self.plan.step(steps[-1]).exits != (None,):
                ends |= last
        return ends

    def _step(self, step: Step, tails: Tails, group: str | None) -> Tails:
        """Add the task of a step, and before it that of the wait whose answer it takes."""
        entry, options = self.plan.block(step.entry), self._options(step)
        if entry.kind == "wait" and step is not self.plan.steps[0]:
            self._add(entry.name, "ask", _place(tails, group), entry.span)
            tails = {entry.name: ""}
            options["ask"] = entry.name
        if step.entry == self.plan.blocks[0].name and self.plan.parameters:
            options["inputs"] = [parameter.name for parameter in self.plan.parameters]
        self._add(step.name, "step", {**_place(tails, group), **options}, step.span)
        return {step.name: ""}

    def _each(self, item: FanItem, tails: Tails, group: str | None) -> Tails:
        step = self.plan.step(item.fan)
        options = {
            "of": item.producer or [*item.items],
            "max_active_tis_per_dagrun": self.plan.max_parallel,
        }
        place = _place(tails, group)
        self._add(step.name, "each", {**place, **self._options(step), **options}, step.span)
        return {step.name: ""}

    def _add(self, name: str, method: str, options: dict[str, Any], span: Span) -> None:
        self.tasks.append(_Task(name, method, options, span))

    def _options(self, step: Step) -> dict[str, Any]:
        options: dict[str, Any] = {"doc": self.wiring.about.step(step)}
        if step.retry == "native" and step.retries:
            options |= {
                "retries": step.retries,
                "retry_delay": float(step.retry_delay),
                "retry_exponential_backoff": float(step.backoff),
                "max_retry_delay": _HOUR,
            }
        if self.wiring.image and step.resources != Resources():
            options["asks_for"] = kubernetes.quantities(step.resources)
        return options


def _place(tails: Tails, group: str | None) -> dict[str, Any]:
    return {"after": dict(tails), **({"group": group} if group else {})}


def _param(declared: parameters.Declared) -> dict[str, Any]:
    # A form submits an empty string as no value.
    kind = ["null", "string"] if isinstance(declared.default, str) else declared.type
    given = {} if declared.default is None else {"default": declared.default}
    schema = {"type": kind}
    return {"name": declared.name, "description": declared.description, "schema": schema, **given}
