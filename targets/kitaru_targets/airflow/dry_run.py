"""Run a DAG file by Airflow's rules, without Airflow.

The file's own functions compute the command of a step. A wait without an answer parks the run, as
in Airflow. A dry run continues from the journal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kitaru.errors import InputError
from kitaru.runtime.schema.validate import problem
from kitaru_targets import delivery
from kitaru_targets.airflow import dag_file, module
from kitaru_targets.common import parameters
from kitaru_targets.dry_run.process import Ended, Machine, Start

Outcome = Mapping[str, str]

# Number of containers that run concurrently on this machine.
_AT_ONCE = 4


def execute(text: str, given: Mapping[str, Any], run_id: str, machine: Machine) -> None:
    """Run a document with the given parameters, each step as a process of `machine`.

    Raises InputError if a required parameter is missing or a parameter does not fit.
    """
    document = dag_file.read(text)
    params = _params(document, given)
    # Airflow's run ids become execution ids. Here the run has the name of its execution.
    params[parameters.EXECUTION] = params[parameters.EXECUTION] or run_id
    run = _Run(document, params, run_id, machine)
    over: set[str] = set()
    for task in document.tasks:
        if task.id not in over:
            skipped = run.task(task)
            if skipped is None:
                return
            over.update(skipped)


def _params(document: dag_file.DagFile, given: Mapping[str, Any]) -> dict[str, Any]:
    known = ", ".join(document.params)
    for name in sorted(set(given) - set(document.params)):
        raise InputError(f"The document: unknown input {name!r}.", help=f"it takes {known}")
    found = {}
    for name, param in document.params.items():
        if name not in given and "default" not in param:
            raise InputError(f"The document: missing input {name!r}.", help=f"it takes {known}")
        found[name] = given.get(name, param.get("default"))
        reason = problem(found[name], param["schema"])
        if reason:
            raise InputError(f"The document: input {name!r}: {reason}", help=f"it takes {known}")
    return found


class _Run:
    def __init__(
        self, document: dag_file.DagFile, params: dict[str, Any], run_id: str, machine: Machine
    ) -> None:
        self._document = document
        self._machine = machine
        self._shared = {
            "params": params,
            "run_id": run_id,
            "dag": SimpleNamespace(dag_id=document.dag["dag_id"]),
        }
        self._row = [task.id for task in document.tasks]
        self._before = {task.id: task.after for task in document.tasks}
        self._eaches = {task.id for task in document.tasks if task.method == "each"}
        self._outcome: Outcome = {}
        self._lists: dict[str, list[str]] = {}

    def task(self, task: dag_file.Task) -> list[str] | None:
        """Run a task; return the tasks that it skips, None if the run stops here."""
        if task.method == "ask":
            return None if self._outcome.get("status") == "waiting" else []
        if task.method == "each":
            return [] if self._each(task) else None
        ended = self._step(task)
        if not ended:
            return None if ended is None else []
        self._outcome, self._lists[task.id] = ended, json.loads(ended.get("items", "[]"))
        over: list[str] = self._functions("")["passed_over"](
            ended, task.id, self._row, self._before
        )
        # The calls of the list run, although control continues behind them.
        return [name for name in over if not self._lists[task.id] or name not in self._eaches]

    def _each(self, task: dag_file.Task) -> bool:
        """Run a step for each item of a list, concurrently; return whether all went well."""
        of = task.options["of"]
        # A skipped task has no list, so this task is skipped, too.
        items = of if isinstance(of, list) else self._lists.get(of, [])
        most = min(_AT_ONCE, task.options["max_active_tis_per_dagrun"])
        with ThreadPoolExecutor(most) as pool:
            return None not in [*pool.map(lambda item: self._step(task, item), items)]

    def _step(self, task: dag_file.Task, item: str = "") -> Outcome | None:
        """Run a step's attempts; return its outcome, {} if it was skipped, None on failure."""
        for attempt in range(1, 2 + task.options.get("retries", 0)):
            ended = self._attempt(task, item, attempt)
            if ended.code == module.NOTHING_TO_DO:
                self._machine.failures.pop(ended.task)
                return {}
            if ended.succeeded:
                return ended.outputs
        return None

    def _attempt(self, task: dag_file.Task, item: str, attempt: int) -> Ended:
        context = {**self._shared, "task": SimpleNamespace(task_id=task.id)}
        inputs, flow = task.options.get("inputs", ()), self._document.flow
        start = [_program() if isinstance(p, dag_file.Program) else p for p in flow["start"]]
        environment = self._functions("")["variables"](flow["environment"], inputs, context)

        def command(folder: Path) -> list[str]:
            # In a dry run, an answer is in the journal before the step that reads it starts.
            functions = self._functions(str(_outcome(folder)))
            words: list[str] = functions["command"](start, inputs, context, None, item)
            return words

        name = f"{task.id}[{item}]" if item else task.id
        return self._machine.run(Start(name, task.id, attempt, command, environment, _read))

    def _functions(self, outcome: str) -> dict[str, Any]:
        """Return the functions of the module, for steps that write the file `outcome`."""
        return module.functions(pods=self._document.pods, outcome=outcome)


def _program() -> str:
    return f"{delivery.program()}\n"


def _outcome(folder: Path) -> Path:
    return folder / "outcome.json"


def _read(folder: Path) -> dict[str, str] | None:
    if not _outcome(folder).is_file():
        return None
    outcome = json.loads(_outcome(folder).read_text(encoding="utf-8"))
    items = {"items": json.dumps(outcome["items"])} if "items" in outcome else {}
    return {"next": outcome["next"], "status": outcome["status"], **items}
