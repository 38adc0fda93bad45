"""Decides the DAG file for Airflow 3: one row of tasks, each of which may find nothing to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kitaru_templates.render import render

from kitaru.wire.plan import Plan, Resources, Span, Step

from ..base import Emission, Wiring
from ..common import dag_file, parameters, resources
from ..common.keys import slug
from .profile import MAX_NAME

_GPU = "nvidia.com/gpu"
_HOUR = 3_600.0


@dataclass(frozen=True, slots=True)
class _Task:
    id: str
    operator: str
    options: dict[str, Any]
    span: Span


def emit(plan: Plan, wiring: Wiring) -> Emission:
    """Return `dag.py` for a plan: pods where there is an image, else processes of the worker.

    Raises UsageError when a name or value cannot stand in it.
    """
    tasks = list(_tasks(plan, pods=bool(wiring.image)))
    steps = {task.id: task.id for task in tasks if task.operator == "Step"}
    values = {
        "image": wiring.image,
        "command": [*wiring.command, *wiring.leading],
        "environment": resources.environment(wiring.environment),
        "inputs": [parameter.name for parameter in plan.parameters],
        "options": {"retry_delay": 2.0},
        "dag_id": _dag_id(plan.flow),
        "description": f"{plan.flow} at {plan.file}:{plan.line}, compiled by Kitaru {plan.kitaru}",
        "schedule": None,
        "params": [
            _param(declared)
            for declared in parameters.declared(plan, wiring.store, wiring.execution)
        ],
        "tasks": tasks,
    }
    asks = {task.id: task.span for task in tasks if task.operator == "Ask"}
    return Emission(render(dag_file.TEMPLATE, values), steps, asks)


def _dag_id(flow: str) -> str:
    """Return the flow's own name where Airflow takes it: not where it is long or beyond ASCII."""
    fits = flow.isascii() and len(flow) <= MAX_NAME
    return flow if fits else slug(flow, fallback="flow", longest=MAX_NAME)


def _tasks(plan: Plan, *, pods: bool) -> Iterator[_Task]:
    """Yield the tasks in program order; a wait asks before the step that goes on after it."""
    for step in plan.steps:
        entry = plan.block(step.entry)
        options = _options(step, pods=pods)
        if entry.kind == "wait" and step is not plan.steps[0]:
            yield _Task(entry.name, "Ask", {}, entry.span)
            options["ask"] = entry.name
        yield _Task(step.name, "Step", options, step.span)


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
    """Return what a step asks for as amounts of a pod's container; raise UsageError on nonsense."""
    if asked.cpu:
        resources.cores(asked.cpu)
    if asked.memory:
        resources.size(asked.memory)
    gpu = str(asked.gpu) if asked.gpu else ""
    amounts = {"cpu": asked.cpu, "memory": asked.memory, _GPU: gpu}
    return {name: amount for name, amount in amounts.items() if amount}


def _param(declared: parameters.Declared) -> dict[str, Any]:
    # A form takes an empty text for none.
    kind = ["null", "string"] if isinstance(declared.default, str) else declared.type
    given = {} if declared.default is None else {"default": declared.default}
    schema = {"type": kind}
    return {"name": declared.name, "description": declared.description, "schema": schema, **given}
