"""Validate that Airflow runs a DAG file as intended."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from kitaru.errors import UsageError
from kitaru.runtime.schema.validate import problem
from kitaru.wire.cron import check_cron, check_timezone
from kitaru_targets.airflow import dag_file, module
from kitaru_targets.airflow.profile import MAX_MAPPED, MAX_NAME
from kitaru_targets.common import parameters
from kitaru_targets.common.schedules import service_cron

_ID = re.compile(rf"[A-Za-z0-9_.-]{{1,{MAX_NAME}}}", re.ASCII)
_RETRIES = {"retries", "retry_delay", "retry_exponential_backoff", "max_retry_delay"}
_PLACE = {"after", "group"}
_STEP = {*_PLACE, "doc", "asks_for", *_RETRIES}
_OPTIONS: dict[str, set[str]] = {
    "step": {*_STEP, "ask", "inputs"},
    "each": {*_STEP, "of", "max_active_tis_per_dagrun"},
    "ask": _PLACE,
    "group": {"inside", "tooltip"},
}


def validate(text: str) -> list[str]:
    """Return the faults of a document, empty if there are no faults."""
    try:
        document = dag_file.read(text)
        return [
            *_names(document),
            *_dag(document),
            *_module(document),
            *_tasks(document),
            *_groups(document),
            *_ways(document),
            *_params(document),
            *_schedule(document),
            *_start(document),
        ]
    except (ValueError, KeyError, SyntaxError) as error:
        return [f"it cannot be read: {error}"]


def _names(document: dag_file.DagFile) -> Iterator[str]:
    ids = [task.id for task in (*document.tasks, *document.groups)]
    for name in (document.dag.get("dag_id"), *ids):
        if not isinstance(name, str) or not _ID.fullmatch(name):
            yield f"{name!r} cannot be an id"
    yield from (f"two tasks are called {name}" for name in sorted({*ids}) if ids.count(name) > 1)


def _dag(document: dag_file.DagFile) -> Iterator[str]:
    if unknown := sorted(document.dag.keys() - dag_file.DAG - dag_file.DAG_FURTHER):
        yield f"its DAG has the unknown option {unknown[0]}"
    most = document.dag.get("max_active_runs", 1)
    if type(most) is not int or most < 1:
        yield f"its DAG may have {most!r} runs at once"


def _module(document: dag_file.DagFile) -> Iterator[str]:
    if document.module != module.name(pods=document.pods):
        yield f"the module {document.module} is not the one of this version"


def _tasks(document: dag_file.DagFile) -> Iterator[str]:
    first = document.tasks[0] if document.tasks else None
    # The rest of an execution may begin with the calls of a list, which is known then.
    listed = first is not None and isinstance(first.options.get("of"), list)
    if first is None or (first.method != "step" and not listed):
        yield "the first task is no step"
    steps: set[str] = set()
    for before, task in pairwise((None, *document.tasks)):
        assert task is not None
        unknown = sorted(set(task.options) - _OPTIONS[task.method])
        if unknown:
            yield f"the task {task.id} has the unknown option {unknown[0]}"
        asked = before.id if before and before.method == "ask" else None
        if task.options.get("ask") != asked or (asked and [*task.after] != [asked]):
            yield f"the task {task.id} does not take the answer of the task before it"
        of = task.options.get("of")
        if task.method == "each" and not isinstance(of, list) and of not in steps:
            yield f"no step before {task.id} makes its list"
        if isinstance(of, list) and len(of) > MAX_MAPPED:
            yield f"the list of {task.id} is longer than {MAX_MAPPED:,}"
        if task.options.get("inputs") and steps:
            yield f"the task {task.id} is not the first, and has the flow's inputs"
        steps |= {task.id} if task.method == "step" else set()
        if "asks_for" in task.options and not document.pods:
            yield f"the task {task.id} asks for a pod's resources, and runs in none"
    if document.tasks and document.tasks[-1].method != "step":
        yield f"no step follows {document.tasks[-1].id}"


def _groups(document: dag_file.DagFile) -> Iterator[str]:
    known: set[str] = set()
    for group in document.groups:
        if group.options.get("inside", group.id) not in {*known, group.id}:
            yield f"the group {group.id} is in an unknown group"
        if unknown := sorted(set(group.options) - _OPTIONS["group"]):
            yield f"the group {group.id} has the unknown option {unknown[0]}"
        known.add(group.id)
    for task in document.tasks:
        if task.options.get("group", "") not in {"", *known}:
            yield f"the task {task.id} is in an unknown group"


def _ways(document: dag_file.DagFile) -> Iterator[str]:
    """Yield the tasks that do not follow from the first one in program order."""
    seen: set[str] = set()
    for task in document.tasks:
        if unknown := sorted({*task.after} - seen):
            yield f"the task {task.id} comes after {unknown[0]}, which is not before it"
        if seen and not task.after:
            yield f"the task {task.id} comes after no task"
        of = task.options.get("of")
        if isinstance(of, str) and of not in task.after:
            yield f"the task {task.id} does not come after the task with its list"
        seen.add(task.id)


def _params(document: dag_file.DagFile) -> Iterator[str]:
    inputs = [name for task in document.tasks for name in task.options.get("inputs", ())]
    needed = {*inputs, parameters.EXECUTION, parameters.STORE}
    needed |= {parameters.INPUTS} if inputs else set()
    yield from (f"the parameter {name} is missing" for name in sorted(needed - {*document.params}))
    for name, param in document.params.items():
        reason = problem(param["default"], param["schema"]) if "default" in param else None
        if reason:
            yield f"the default of {name}: {reason}"
        if "default" not in param and document.dag["schedule"] is not None:
            yield f"a run by schedule is given no {name}"


def _schedule(document: dag_file.DagFile) -> Iterator[str]:
    schedule = document.dag["schedule"]
    if schedule is None:
        return
    if not isinstance(schedule, dict) or schedule.keys() != {"cron", "timezone", "one_at_a_time"}:
        yield "the schedule is not one that the module reads"
        return
    try:
        service_cron(check_cron(schedule["cron"]))
        check_timezone(schedule["timezone"])
    except UsageError as error:
        yield f"the schedule: {error.message}"


def _start(document: dag_file.DagFile) -> Iterator[str]:
    start, environment = document.flow["start"], document.flow["environment"]
    if not start:
        yield "a step has no command"
    texts: list[Any] = [*start, *environment.values()]
    if not all(isinstance(text, str) and "\0" not in text for text in texts):
        yield "a command or a variable holds what is no text"
    for part in start:
        if isinstance(part, dag_file.Program) and part != module.program():
            yield f"the program {part} is not the one of this version"
    if document.pods and not document.flow["pod"].get("image"):
        yield "a pod has no image"
