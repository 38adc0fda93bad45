"""Run a workflow template alone, by the rules of Argo's controller.

A task starts when its `depends` is true: a plain name counts as met if the task succeeded or was
skipped. It is then skipped if its `when` is false. References are those that our documents use, and
any other one is an error. Tasks run in order, and only the calls of a fan-out side by side.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kitaru.errors import InputError
from kitaru_targets.argo import conditions
from kitaru_targets.argo.emit import AGAIN, FOLDER, PROGRAM_FOLDER
from kitaru_targets.common import read
from kitaru_targets.common.parameters import EXECUTION
from kitaru_targets.dry_run.process import Machine, Start

State = Literal["Succeeded", "Skipped", "Failed", "Omitted"]
Values = Mapping[str, str]
# On a cluster each container has its own machine. Here they share one.
_AT_ONCE = 4
_REFERENCE = re.compile(r"\{\{[^{}]*\}\}")
_MET = {"Succeeded": ("Succeeded", "Skipped"), "Failed": ("Failed",), "Errored": ()}


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt to run a container: its task, its arguments and its variables."""

    task: str
    attempt: int
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    outputs: tuple[str, ...]

    @property
    def step(self) -> str:
        return self.argument("step")

    def argument(self, name: str) -> str:
        """Return the value of an argument, empty if it is not given."""
        option = f"--{name}="
        return next((a.removeprefix(option) for a in self.arguments if a.startswith(option)), "")


# Runs a container; returns its outputs, None if it failed.
Run = Callable[[Call], Mapping[str, str] | None]
# Waits for an answer; returns False without one.
Wait = Callable[[], bool]


class Suspended(Exception):
    """The run stays at a wait that has no answer."""


def execute(text: str, given: Mapping[str, Any], run_id: str, machine: Machine) -> None:
    """Run a template with the given parameters, each container as a process of `machine`."""
    template, *further = read.parse_all(text)
    programs = {name: data for one in further for name, data in one["data"].items()}

    def run(call: Call) -> Mapping[str, str] | None:
        item = call.argument("item")
        ended = machine.run(
            Start(
                task=f"{call.task}[{item}]" if item else call.task,
                step=call.step,
                attempt=call.attempt,
                command=lambda folder: of_container(call, folder, programs),
                environment=call.environment,
                read=lambda folder: written(call, folder),
            )
        )
        return ended.outputs if ended.succeeded else None

    # Names of runs become execution ids. Here the run has the name of its execution.
    named = {**given, EXECUTION: given.get(EXECUTION) or run_id}
    interpret(template, named, run_id, run, machine.answered)


def of_container(call: Call, folder: Path, programs: Mapping[str, str]) -> list[str]:
    """Return a container's command with the paths of this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in programs.items():
        (folder / name).write_text(data, encoding="utf-8")
    places = {f"{PROGRAM_FOLDER}/{name}": f"{folder / name}" for name in programs}
    return [places.get(word, word.replace(f"={FOLDER}/", f"={folder}/")) for word in call.arguments]


def written(call: Call, folder: Path) -> Mapping[str, str] | None:
    """Return what a container has written, None if a file is missing."""
    files = {name: folder / name for name in call.outputs}
    if not all(file.is_file() for file in files.values()):
        return None
    return {name: file.read_text(encoding="utf-8") for name, file in files.items()}


def interpret(
    document: Mapping[str, Any],
    given: Mapping[str, Any],
    run_id: str,
    run: Run,
    wait: Wait,
    name: str = "",
    namespace: str = "dry-run",
) -> list[tuple[str, State]]:
    """Run a template; return the state of each task in the order in which they ended.

    The run is called `name` in the `namespace`, and `run_id` is its uid.

    Raises InputError if a parameter is missing or unknown.
    """
    spec = document["spec"]
    walk = _Walk(spec, _globals(spec, given, (namespace, name or run_id, run_id)), run, wait)
    with suppress(Suspended):
        walk.dag(walk.templates[spec["entrypoint"]], {})
    return walk.ended


def _globals(
    spec: Mapping[str, Any], given: Mapping[str, Any], run: tuple[str, str, str]
) -> dict[str, str]:
    declared = spec["arguments"]["parameters"]
    names = [one["name"] for one in declared]
    unknown = sorted(set(given) - set(names))
    missing = [o["name"] for o in declared if o["name"] not in given and "value" not in o]
    if unknown or missing:
        found = f"unknown input {unknown[0]!r}" if unknown else f"missing input {missing[0]!r}"
        raise InputError(f"The document: {found}", help=f"it takes {', '.join(names)}")
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in given.items()
    }
    values = {one["name"]: texts.get(one["name"], one.get("value", "")) for one in declared}
    return {
        **{f"{{{{workflow.parameters.{name}}}}}": value for name, value in values.items()},
        "{{workflow.namespace}}": run[0],
        "{{workflow.name}}": run[1],
        "{{workflow.uid}}": run[2],
    }


@dataclass
class _Walk:
    spec: Mapping[str, Any]
    everywhere: Values
    run: Run
    wait: Wait
    ended: list[tuple[str, State]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.templates = {one["name"]: one for one in self.spec["templates"]}

    def dag(self, template: Mapping[str, Any], inputs: Values) -> bool:
        """Run a template's tasks; return whether none failed that no other task handles."""
        states: dict[str, State] = {}
        outputs: dict[str, str] = {}
        tasks = template["dag"]["tasks"]
        for task in tasks:
            state = self._task(task, inputs, states, outputs)
            states[task["name"]] = state
            self.ended.append((task["name"], state))
        needed = {name for task in tasks for name in _names(task.get("depends", ""))}
        leaves = [task["name"] for task in tasks if task["name"] not in needed]
        return all(states[name] in ("Succeeded", "Skipped") for name in leaves)

    def _task(
        self,
        task: Mapping[str, Any],
        inputs: Values,
        states: Mapping[str, State],
        outputs: dict[str, str],
    ) -> State:
        if not met(task.get("depends", ""), states):
            return "Omitted"
        known = {**self.everywhere, **inputs, **outputs}
        items = [None]
        if "withParam" in task:
            items = json.loads(_filled(task["withParam"], known))
        if not items or ("when" in task and not conditions.holds(task["when"], known.__getitem__)):
            return "Skipped"
        if "withParam" not in task:
            return self._start(task, known, outputs)
        with ThreadPoolExecutor(min(_AT_ONCE, self.spec["parallelism"])) as threads:
            known_of = [{**known, "{{item}}": str(item)} for item in items]
            done = [*threads.map(lambda one: self._start(task, one, {}), known_of)]
        return "Failed" if "Failed" in done else "Succeeded"

    def _start(self, task: Mapping[str, Any], known: Values, outputs: dict[str, str]) -> State:
        template = self.templates[task["template"]]
        given = {
            f"{{{{inputs.parameters.{one['name']}}}}}": _filled(one["value"], known)
            for one in task.get("arguments", {}).get("parameters", [])
        }
        if "suspend" in template:
            if not self.wait():
                raise Suspended
            return "Succeeded"
        if "dag" in template:
            return "Succeeded" if self.dag(template, given) else "Failed"
        found = self._container(task["name"], template, {**self.everywhere, **given})
        if found is None:
            return "Failed"
        prefix = f"{{{{tasks.{task['name']}.outputs.parameters."
        outputs |= {f"{prefix}{name}}}}}": value for name, value in found.items()}
        return "Succeeded"

    def _container(
        self, task: str, template: Mapping[str, Any], known: Values
    ) -> Mapping[str, str] | None:
        container = template["container"]
        words = [*container["command"], *container["args"]]
        for attempt in range(1, 2 + int(template.get("retryStrategy", {}).get("limit", "0"))):
            call = Call(
                task,
                attempt,
                tuple(_filled(word, known) for word in words),
                {
                    one["name"]: _filled(one["value"], known)
                    for one in container["env"]
                    if "value" in one
                },
                tuple(o["name"] for o in template.get("outputs", {}).get("parameters", [])),
            )
            found = self.run(call)
            if found is not None:
                return found
        return None


def _filled(text: str, known: Values) -> str:
    """Return a text with the values of its references."""

    def value(match: re.Match[str]) -> str:
        if match[0] == AGAIN:
            return str(int(known["{{inputs.parameters.round}}"]) + 1)
        if match[0] not in known:
            raise InputError(f"The document: {match[0]} is no value of the run.")
        return known[match[0]]

    return _REFERENCE.sub(value, text)


def met(depends: str, states: Mapping[str, State]) -> bool:
    """Return whether the tasks before one have ended as it needs."""
    return all(_term(term, states) for term in depends.split(" && ")) if depends else True


def _term(term: str, states: Mapping[str, State]) -> bool:
    return any(
        states[name] in _MET[result or "Succeeded"]
        for name, _, result in (part.partition(".") for part in term.strip("()").split(" || "))
    )


def _names(depends: str) -> list[str]:
    return re.findall(r"[a-z][a-z0-9-]*(?=[ .)]|$)", depends)
