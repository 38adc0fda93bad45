"""Run a Kubeflow or Vertex document alone, in the order of a cluster.

A task that depends on a skipped task is skipped as well. A task that depends on a failed task does
not run. This is stricter than the vendors' local runners.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Literal

from kitaru.errors import InputError
from kitaru_targets.common import read
from kitaru_targets.dry_run.process import Machine, Start
from kitaru_targets.kfp import conditions
from kitaru_targets.kfp.document import RUN_UUID

State = Literal["succeeded", "skipped", "failed", "blocked"]
Values = dict[str, Any]

# On a cluster each container has its own machine. Here they share one.
_AT_ONCE = 4
_INPUT = re.compile(r"\{\{\$\.inputs\.parameters\['([^']+)'\]\}\}")
_OUTPUT = re.compile(r"\{\{\$\.outputs\.parameters\['([^']+)'\]\.output_file\}\}")


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt to run a container: the task, its executor, the inputs, the requested outputs."""

    task: str
    attempt: int
    container: Mapping[str, Any]
    inputs: Mapping[str, Any]
    outputs: tuple[str, ...]


# Runs a container; returns its outputs, or None on failure.
Run = Callable[[Call], Mapping[str, str] | None]


def execute(text: str, given: Mapping[str, Any], run_id: str, machine: Machine) -> None:
    """Run a document with the given parameters, each container as a process of `machine`."""
    # The second document sets something on pods, which are processes here.
    interpret(read.parse_all(text)[0], given, run_id, lambda call: _started(call, machine))


def interpret(
    spec: Mapping[str, Any], given: Mapping[str, Any], run_id: str, run: Run
) -> dict[str, State]:
    """Run a document with the given parameters; return the final state of each task.

    Raises InputError if a required parameter is missing or a parameter is unknown.
    """
    interpreter = _Interpreter(spec, run_id, run)
    interpreter.dag("root", spec["root"], _arguments(spec["root"], given))
    return interpreter.states


def _arguments(root: Mapping[str, Any], given: Mapping[str, Any]) -> Values:
    declared = root.get("inputDefinitions", {}).get("parameters", {})
    unknown = sorted(set(given) - set(declared))
    missing = [n for n, d in declared.items() if n not in given and not d.get("isOptional")]
    if unknown or missing:
        found = f"unknown input {unknown[0]!r}" if unknown else f"missing input {missing[0]!r}"
        raise InputError(f"The document: {found}", help=f"it takes {', '.join(declared)}")
    return {name: given.get(name, d.get("defaultValue")) for name, d in declared.items()}


class _Interpreter:
    def __init__(self, spec: Mapping[str, Any], run_id: str, run: Run) -> None:
        self._components = spec["components"]
        self._executors = spec["deploymentSpec"]["executors"]
        self._run_id = run_id
        self._run = run
        self._lock = threading.Lock()
        self.states: dict[str, State] = {}

    def dag(self, name: str, component: Mapping[str, Any], inputs: Values) -> Values | None:
        """Run a graph; return its outputs, None if a task in it failed."""
        tasks = component["dag"]["tasks"]
        outputs: dict[str, Values] = {}
        # For this graph only: the body of a loop runs several times concurrently.
        states: dict[str, State] = {}
        for key in _order(tasks):
            state = _gate(tasks[key], states)
            if state is None:
                state = self._task(key, tasks[key], inputs, outputs)
            states[key] = state
        self._note(states)
        if any(state in ("failed", "blocked") for state in states.values()):
            return None
        selected = component["dag"].get("outputs", {}).get("parameters", {})
        return {n: _selected(s["valueFromParameter"], outputs) for n, s in selected.items()}

    def _note(self, states: Mapping[str, State]) -> None:
        """Record the final states of tasks; for repeated runs of a task, a failure counts."""
        with self._lock:
            for key, state in states.items():
                if self.states.get(key) not in ("failed", "blocked"):
                    self.states[key] = state

    def _task(
        self, key: str, task: Mapping[str, Any], inputs: Values, outputs: dict[str, Values]
    ) -> State:
        component = self._components[task["componentRef"]["name"]]
        arguments = {
            name: self._value(source, inputs, outputs)
            for name, source in task.get("inputs", {}).get("parameters", {}).items()
        }
        condition = task.get("triggerPolicy", {}).get("condition", "")
        if condition and not _holds(condition, arguments):
            return "skipped"
        if "parameterIterator" in task:
            result = self._loop(key, task, component, arguments)
        elif "dag" in component:
            result = self.dag(key, component, arguments)
        else:
            result = self._container(key, task, component, arguments)
        if result is None:
            return "failed"
        outputs[key] = result
        return "succeeded"

    def _loop(
        self,
        key: str,
        task: Mapping[str, Any],
        component: Mapping[str, Any],
        arguments: Values,
    ) -> Values | None:
        """Run the group once for each item, several concurrently."""
        item = task["parameterIterator"]["itemInput"]
        match task["parameterIterator"]["items"]:
            case {"raw": raw}:
                items = json.loads(raw)
            case {"inputParameter": name}:
                items = json.loads(arguments[name])
        most = min(_AT_ONCE, task["iteratorPolicy"]["parallelismLimit"])
        with ThreadPoolExecutor(most) as pool:
            ended = pool.map(lambda one: self.dag(key, component, {**arguments, item: one}), items)
            return None if None in [*ended] else {}

    def _value(
        self, source: Mapping[str, Any], inputs: Values, outputs: Mapping[str, Values]
    ) -> Any:
        match source:
            case {"runtimeValue": {"constant": constant}}:
                return self._run_id if constant == RUN_UUID else constant
            case {"componentInputParameter": name}:
                return inputs[name]
            case {"taskOutputParameter": {"producerTask": task, "outputParameterKey": output}}:
                return outputs[task][output]
        raise ValueError(f"an input comes from {sorted(source)}, which no dry run understands")

    def _container(
        self,
        key: str,
        task: Mapping[str, Any],
        component: Mapping[str, Any],
        arguments: Values,
    ) -> Values | None:
        container = self._executors[component["executorLabel"]]["container"]
        names = tuple(component.get("outputDefinitions", {}).get("parameters", {}))
        attempts = 1 + int(task.get("retryPolicy", {}).get("maxRetryCount", 0))
        for attempt in range(1, attempts + 1):
            result = self._run(Call(key, attempt, container, arguments, names))
            if result is not None:
                return dict(result)
        return None


def _started(call: Call, machine: Machine) -> Mapping[str, str] | None:
    item = call.inputs.get("item")
    ended = machine.run(
        Start(
            task=call.task if item is None else f"{call.task}[{text_of(item)}]",
            step=text_of(call.inputs.get("step", call.task)),
            attempt=call.attempt,
            command=lambda folder: command(call, folder),
            environment={entry["name"]: entry["value"] for entry in call.container.get("env", [])},
            read=lambda folder: _files(call.outputs, folder),
        )
    )
    return ended.outputs if ended.succeeded else None


def _files(names: tuple[str, ...], folder: Path) -> Mapping[str, str] | None:
    files = {name: folder / name for name in names}
    if not all(file.is_file() for file in files.values()):
        return None
    return {name: file.read_text(encoding="utf-8") for name, file in files.items()}


def command(call: Call, outputs: Path) -> list[str]:
    """Return a container's command and arguments, with inputs and output files inserted."""
    parts = [*call.container["command"], *call.container.get("args", [])]
    return [_filled(part, call, outputs) for part in parts]


def _filled(part: str, call: Call, outputs: Path) -> str:
    part = _OUTPUT.sub(lambda match: str(outputs / match[1]), part)
    return _INPUT.sub(lambda match: text_of(call.inputs[match[1]]), part)


def _gate(task: Mapping[str, Any], states: Mapping[str, State]) -> State | None:
    before = [states[needed] for needed in task.get("dependentTasks", [])]
    if "failed" in before or "blocked" in before:
        return "blocked"
    return "skipped" if "skipped" in before else None


def text_of(value: Any) -> str:
    """Format a parameter's value for a container's argument."""
    return value if isinstance(value, str) else json.dumps(value)


def _holds(condition: str, arguments: Values) -> bool:
    return all(c.holds(arguments.__getitem__) for c in conditions.read(condition))


def _selected(selector: Mapping[str, str], outputs: Mapping[str, Values]) -> Any:
    return outputs[selector["producerSubtask"]][selector["outputParameterKey"]]


def _order(tasks: Mapping[str, Any]) -> list[str]:
    """Sort the tasks after their dependencies, otherwise in the written order."""
    graph = {key: task.get("dependentTasks", []) for key, task in tasks.items()}
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise ValueError("tasks depend on each other in a circle") from error
