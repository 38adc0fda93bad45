"""Run a state machine alone, state by state, each task as a process.

The states, expressions and limits are those that our documents use. Retries follow the document
without its pauses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from kitaru.errors import InputError
from kitaru.stores import open_store
from kitaru_targets.common.parameters import EXECUTION, STORE
from kitaru_targets.dry_run.process import Machine, Start
from kitaru_targets.stepfunctions.emit import (
    BUCKET,
    CLUSTER,
    DEFAULTS,
    GROUPS,
    OUTCOME_KEY,
    PREFIX,
    READ,
    RUN_TASK,
    SUBNETS,
    TASK,
)
from kitaru_targets.stepfunctions.expressions import evaluate, find
from kitaru_targets.stepfunctions.profile import MAX_OVERRIDES, TASK_DEFINITION

# Parameters of a real run in addition to the flow's inputs.
_STAND_INS = {BUCKET: "dry-run", PREFIX: "", CLUSTER: "dry-run", SUBNETS: [], GROUPS: []}
_ACCOUNT = "arn:aws:states:us-east-1:000000000000"
Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One start of a container: its state, its arguments and its variables."""

    task: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]

    @property
    def step(self) -> str:
        return self.arguments[self.arguments.index("--step") + 1]


# Runs a container; returns whether it succeeded.
Run = Callable[[Call, int], bool]
# Returns the outcome at a key, None if it is absent.
Read = Callable[[str], str | None]
# Waits for an answer; returns False without one.
Wait = Callable[[], bool]


def execute(text: str, given: Values, run_id: str, machine: Machine) -> None:
    """Run a state machine with the given parameters, each step as a process of `machine`."""
    # Names of runs become execution ids. Here the run has the name of its execution.
    named = {**given, EXECUTION: given.get(EXECUTION) or run_id}
    definition = json.loads(machine.further[TASK_DEFINITION])
    (container,) = definition["containerDefinitions"]
    variables = {one["name"]: one["value"] for one in container["environment"]}

    def run(call: Call, attempt: int) -> bool:
        start = Start(
            task=call.task,
            step=call.step,
            attempt=attempt,
            command=lambda _: [*container["entryPoint"], *call.arguments],
            environment={**variables, **call.environment},
            read=lambda _: _said(call, read),
        )
        return machine.run(start).succeeded

    def read(key: str) -> str | None:
        store = open_store(str(given[STORE]))
        try:
            data = store.get(key)
        finally:
            store.close()
        return None if data is None else data.decode()

    interpret(json.loads(text), named, run_id, run, read, machine.answered)


def _said(call: Call, read: Read) -> dict[str, str]:
    """Return the texts of the outcome that a step wrote, {} if no state reads its outcome."""
    if OUTCOME_KEY not in call.arguments:
        return {}
    text = read(call.arguments[call.arguments.index(OUTCOME_KEY) + 1])
    # Without an outcome, the state that reads it fails.
    outcome = {} if text is None else json.loads(text)
    return {name: value for name, value in outcome.items() if isinstance(value, str)}


def interpret(
    document: Values, given: Values, run_id: str, run: Run, read: Read, wait: Wait
) -> list[str]:
    """Run a state machine; return the names of the states that it entered, in order.

    Raises InputError if a required parameter is missing, a parameter is unknown, or the overrides
    of a task are longer than the service accepts.
    """
    _check(document, given)
    # As at the start of a real run, empty values of Kitaru's own parameters count as missing.
    chosen = {n: v for n, v in given.items() if v != "" or not n.startswith("kitaru_")}
    context = {
        "Execution": {
            "Id": f"{_ACCOUNT}:execution:dry-run:{run_id}",
            "Name": run_id,
            "Input": {**_STAND_INS, **chosen},
            "StartTime": "2026-01-01T00:00:00.000Z",
        },
        "StateMachine": {"Name": "dry-run"},
        "State": {"EnteredTime": "2026-01-01T00:00:00.000Z"},
        "Task": {"Token": "dry-run"},
    }
    walk = _Walk(run, read, wait, context)
    walk.run(document, {})
    return walk.entered


def _check(document: Values, given: Values) -> None:
    defaults = document["States"][DEFAULTS]["Result"]
    known = {*defaults, *_STAND_INS, *_asked(document), STORE, EXECUTION, TASK}
    unknown = sorted({*given} - known)
    missing = sorted(_asked(document) - {*given} - {*defaults, *_STAND_INS})
    if unknown or missing:
        found = f"unknown input {unknown[0]!r}" if unknown else f"missing input {missing[0]!r}"
        raise InputError(f"The document: {found}", help=f"it takes {', '.join(sorted(known))}")


def _asked(value: Any) -> set[str]:
    """Return the names of the parameters that a document reads."""
    if isinstance(value, dict):
        return {name for item in value.values() for name in _asked(item)}
    if isinstance(value, list):
        return {name for item in value for name in _asked(item)}
    found = str(value).split("$.given.")[1:] if isinstance(value, str) else []
    return {part.partition(",")[0].partition(")")[0].strip() for part in found}


@dataclass
class _Walk:
    """A run of a state machine, or of one item of a Map."""

    start: Run
    read: Read
    wait: Wait
    context: Values
    entered: list[str] = field(default_factory=list)

    def run(self, machine: Values, data: dict[str, Any]) -> bool:
        """Run a machine to its end; return whether it succeeded."""
        name: str | None = machine["StartAt"]
        while name is not None:
            self.entered.append(name)
            state = machine["States"][name]
            kind = state["Type"]
            if kind in ("Succeed", "Fail"):
                return bool(kind == "Succeed")
            if kind == "Pass":
                data = self._pass(state, data)
            elif kind == "Choice":
                name = self._choice(state, data)
                continue
            elif kind == "Wait":
                if not self.wait():
                    return False
            elif not (self._map(state, data) if kind == "Map" else self._task(name, state, data)):
                name = state["Catch"][0]["Next"] if kind == "Map" else None
                if name is None:
                    return False
                continue
            name = state.get("Next")
        return True

    def _pass(self, state: Values, data: dict[str, Any]) -> dict[str, Any]:
        if "Parameters" in state:
            found: dict[str, Any] = self._built(state["Parameters"], data)
            return found
        return {**data, state["ResultPath"].removeprefix("$."): state["Result"]}

    def _choice(self, state: Values, data: Values) -> str:
        for rule in state["Choices"]:
            if all(_holds(test, data) for test in rule.get("And", [rule])):
                return str(rule["Next"])
        return str(state["Default"])

    def _task(self, name: str, state: Values, data: dict[str, Any]) -> bool:
        given = self._built(state["Parameters"], data)
        if state["Resource"] == RUN_TASK:
            return self._container(name, state, given["Overrides"])
        if state["Resource"] == READ:
            body = self.read(given["Key"])
            if body is None:
                return False
            said = self._built(state["ResultSelector"], {"Body": body})
            data[state["ResultPath"].removeprefix("$.")] = said
            return True
        return self.wait()

    def _container(self, name: str, state: Values, overrides: Values) -> bool:
        if len(json.dumps(overrides)) > MAX_OVERRIDES:
            raise InputError(
                f"ECS accepts {MAX_OVERRIDES:,} characters for the arguments and variables of a "
                "task.",
                help="Put the inputs into the store, as DEPLOY.md describes.",
            )
        (container,) = overrides["ContainerOverrides"]
        environment = {one["Name"]: one["Value"] for one in container.get("Environment", [])}
        call = Call(name, tuple(container["Command"]), environment)
        attempts = 1 + sum(
            retry["MaxAttempts"]
            for retry in state["Retry"]
            if retry["ErrorEquals"] == ["States.TaskFailed"]
        )
        return any(self.start(call, number) for number in range(1, attempts + 1))

    def _map(self, state: Values, data: Values) -> bool:
        items = find(state["ItemsPath"], data, self.context)

        def run(number: int) -> bool:
            item = {"Index": number, "Value": items[number]}
            context = {**self.context, "Map": {"Item": item}}
            inner = _Walk(self.start, self.read, self.wait, context)
            given = inner._built(state["ItemSelector"], dict(data))
            ended = inner.run(state["ItemProcessor"], given)
            self.entered.extend(inner.entered)
            return ended

        with ThreadPoolExecutor(state["MaxConcurrency"]) as threads:
            return all([*threads.map(run, range(len(items)))])

    def _built(self, value: Any, data: Values) -> Any:
        """Return the parameters of a state, with the values of its expressions."""
        if isinstance(value, dict):
            return dict(self._entry(*pair, data) for pair in value.items())
        return [self._built(item, data) for item in value] if isinstance(value, list) else value

    def _entry(self, key: str, value: Any, data: Values) -> tuple[str, Any]:
        if not key.endswith(".$"):
            return key, self._built(value, data)
        try:
            return key.removesuffix(".$"), evaluate(value, data, self.context)
        except ValueError as error:
            raise InputError(f"The document: {error}") from error


def _holds(test: Values, data: Values) -> bool:
    found = find(test["Variable"], data, {})
    if "IsPresent" in test:
        return (found is not None) is test["IsPresent"]
    return bool(found == test["StringEquals"])
