"""Write the DAG file for Airflow 3: a chain of tasks, any of which may have no work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kitaru_templates.render import render

from kitaru.errors import UsageError
from kitaru.wire import amounts
from kitaru.wire.plan import BranchItem, FanItem, LayoutItem, Plan, Resources, Span, Step
from kitaru_targets.airflow import dag_file
from kitaru_targets.airflow.profile import MAX_NAME
from kitaru_targets.base import ContainerSpec, Emission
from kitaru_targets.common import parameters, variables
from kitaru_targets.common.node_names import slug

_GPU = "nvidia.com/gpu"
_HOUR = 3_600.0
_OF_EVERY_TASK = {"retry_delay": 2.0, "trigger_rule": "none_failed"}
# The options in `[tool.kitaru.airflow]`: of the DAG and its tasks, and of pods.
_OPTIONS = ("pool", "schedule")
_POD = ("namespace", "service_account_name")


@dataclass(frozen=True, slots=True)
class _Task:
    id: str
    operator: str
    options: dict[str, Any]
    span: Span


def emit(plan: Plan, wiring: ContainerSpec) -> Emission:
    """Return `dag.py` for a plan: pods if there is an image, otherwise processes of the worker.

    Raises UsageError if a name or value is not valid in the file.
    """
    declared = parameters.declared(plan, wiring.store, wiring.execution)
    given = _checked(plan, declared)
    tasks = list(_tasks(plan, pods=bool(wiring.image)))
    steps = {task.id: task.id for task in tasks if task.operator != "Ask"}
    values = {
        "image": wiring.image,
        "command": [*wiring.command, *wiring.leading],
        "environment": variables.environment(wiring.environment),
        "inputs": [parameter.name for parameter in plan.parameters],
        "options": {**_OF_EVERY_TASK, **{n: v for n, v in given.items() if n == "pool"}},
        "pod": {n: v for n, v in given.items() if n in _POD},
        "dag_id": _dag_id(plan.flow),
        "description": f"{plan.flow} at {plan.file}:{plan.line}, compiled by Kitaru {plan.kitaru}",
        "schedule": given.get("schedule"),
        "params": [_param(one) for one in declared],
        "tasks": tasks,
    }
    asks = {task.id: task.span for task in tasks if task.operator == "Ask"}
    return Emission(render(dag_file.TEMPLATE, values), steps, asks)


def _checked(plan: Plan, declared: Sequence[parameters.Declared]) -> dict[str, str]:
    """Return the project's options for Airflow; raise UsageError if they are not valid."""
    unknown = sorted(set(plan.options) - {*_OPTIONS, *_POD})
    if unknown:
        known = ", ".join((*_OPTIONS, *_POD))
        raise UsageError(f"Airflow has no option {unknown[0]!r}.", help=f"its options are: {known}")
    needed = [one.name for one in declared if one.default is None]
    if needed and "schedule" in plan.options:
        raise UsageError(
            f"{plan.file}:{plan.line}: a run of {plan.flow} by schedule is given no {needed[0]}",
            help="give the input a default, and name the store: kitaru compile … --store URL",
        )
    return plan.options


def _dag_id(flow: str) -> str:
    """Return the flow's own name if Airflow accepts it: short and ASCII only."""
    fits = flow.isascii() and len(flow) <= MAX_NAME
    return flow if fits else slug(flow, fallback="flow", longest=MAX_NAME)


def _tasks(plan: Plan, *, pods: bool) -> Iterator[_Task]:
    """Yield the tasks in program order. A wait's task precedes the step that continues after it."""
    lists = {item.fan: item for item in _fans(plan.layout)}
    for step in plan.steps:
        entry, options = plan.block(step.entry), _options(step, pods=pods)
        if step.per_item:
            item = lists[step.name]
            options["of"] = item.producer or [*item.items]
            options["max_active_tis_per_dagrun"] = plan.max_parallel
        elif entry.kind == "wait" and step is not plan.steps[0]:
            yield _Task(entry.name, "Ask", {}, entry.span)
            options["ask"] = entry.name
        yield _Task(step.name, "Each" if step.per_item else "Step", options, step.span)


def _fans(items: Sequence[LayoutItem]) -> Iterator[FanItem]:
    for item in items:
        match item:
            case FanItem():
                yield item
            case BranchItem(arms=arms):
                for arm in arms:
                    yield from _fans(arm)


def _options(step: Step, *, pods: bool) -> dict[str, Any]:
    options: dict[str, Any] = {"doc": f"{step.span.file}:{step.span.line}"}
    if step.retry == "native" and step.retries:
        options |= {
            "retries": step.retries,
            "retry_delay": float(step.retry_delay),
            "retry_exponential_backoff": float(step.backoff),
            "max_retry_delay": _HOUR,
        }
    if pods and step.resources != Resources():
        options["asks_for"] = _amounts(step.resources)
    return options


def _amounts(asked: Resources) -> dict[str, str]:
    """Return the requested resources of a step as pod resources; raise UsageError if not valid."""
    if asked.cpu:
        amounts.cores(asked.cpu)
    if asked.memory:
        amounts.size(asked.memory)
    gpu = str(asked.gpu) if asked.gpu else ""
    found = {"cpu": asked.cpu, "memory": asked.memory, _GPU: gpu}
    return {name: amount for name, amount in found.items() if amount}


def _param(declared: parameters.Declared) -> dict[str, Any]:
    # A form submits an empty string as no value.
    kind = ["null", "string"] if isinstance(declared.default, str) else declared.type
    given = {} if declared.default is None else {"default": declared.default}
    schema = {"type": kind}
    return {"name": declared.name, "description": declared.description, "schema": schema, **given}
