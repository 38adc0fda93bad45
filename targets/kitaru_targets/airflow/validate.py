"""Validate that Airflow runs a DAG file as intended."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from kitaru.runtime.schema.validate import problem
from kitaru_targets.airflow import dag_file
from kitaru_targets.airflow.profile import MAX_MAPPED, MAX_NAME
from kitaru_targets.common import parameters

_ID = re.compile(rf"[A-Za-z0-9_.-]{{1,{MAX_NAME}}}", re.ASCII)
_RETRIES = {"retries", "retry_delay", "retry_exponential_backoff", "max_retry_delay"}
_STEP = {"ask", "asks_for", "doc", *_RETRIES}
_OPTIONS = {
    "Step": _STEP,
    "Each": {*_STEP, "of", "max_active_tis_per_dagrun"},
    "Ask": set(),
}


def validate(text: str) -> list[str]:
    """Return the faults of a document, empty if there are no faults."""
    try:
        document = dag_file.read(text)
    except (ValueError, KeyError, SyntaxError) as error:
        return [f"it cannot be read: {error}"]
    return [*_names(document), *_row(document), *_params(document), *_start(document)]


def _names(document: dag_file.DagFile) -> Iterator[str]:
    ids = [task.id for task in document.tasks]
    for name in (document.dag.get("dag_id"), *ids):
        if not isinstance(name, str) or not _ID.fullmatch(name):
            yield f"{name!r} cannot be an id"
    yield from (f"two tasks are called {name}" for name in sorted({*ids}) if ids.count(name) > 1)


def _row(document: dag_file.DagFile) -> Iterator[str]:
    if document.constants["ROW"] != [task.id for task in document.tasks]:
        yield "the row is not that of the tasks"
    if not document.tasks or document.tasks[0].operator == "Ask":
        yield "the first task is no step"
    steps: set[str] = set()
    for before, task in pairwise((None, *document.tasks)):
        assert task is not None
        unknown = sorted(set(task.options) - _OPTIONS[task.operator])
        if unknown:
            yield f"the task {task.id} has the unknown option {unknown[0]}"
        asked = before.id if before and before.operator == "Ask" else None
        if task.options.get("ask") != asked:
            yield f"the task {task.id} does not take the answer of the task before it"
        of = task.options.get("of")
        if task.operator == "Each" and not isinstance(of, list) and of not in steps:
            yield f"no step before {task.id} makes its list"
        if isinstance(of, list) and len(of) > MAX_MAPPED:
            yield f"the list of {task.id} is longer than {MAX_MAPPED:,}"
        steps |= {task.id} if task.operator == "Step" else set()
        if "asks_for" in task.options and "IMAGE" not in document.constants:
            yield f"the task {task.id} asks for a pod's resources, and runs in none"
    if document.tasks and document.tasks[-1].operator != "Step":
        yield f"no step follows {document.tasks[-1].id}"


def _params(document: dag_file.DagFile) -> Iterator[str]:
    inputs = document.constants["INPUTS"]
    needed = {*inputs, parameters.EXECUTION, parameters.STORE}
    needed |= {parameters.INPUTS} if inputs else set()
    yield from (f"the parameter {name} is missing" for name in sorted(needed - {*document.params}))
    for name, param in document.params.items():
        reason = problem(param["default"], param["schema"]) if "default" in param else None
        if reason:
            yield f"the default of {name}: {reason}"
        if "default" not in param and document.dag["schedule"] is not None:
            yield f"a run by schedule is given no {name}"


def _start(document: dag_file.DagFile) -> Iterator[str]:
    constants = document.constants
    if not constants["COMMAND"]:
        yield "a step has no command"
    texts: list[Any] = [*constants["COMMAND"], *constants["ENVIRONMENT"].values()]
    if not all(isinstance(text, str) and "\0" not in text for text in texts):
        yield "a command or a variable holds what is no text"
