"""Decides what runs, and in which order, from a SageMaker definition alone, as the service would.

A step whose predecessor failed does not run, and texts longer than the service's API takes stop the
run before anything starts: this is stricter than the vendor's local mode.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kitaru.errors import EnvironmentFailure, InputError
from kitaru.stores import open_store

from ..common.parameters import STORE
from ..sagemaker.emit import IMAGE, OUTCOME, OUTCOME_FILE, ROLE, RUN
from ..sagemaker.profile import FOLDER, LIMITS, MAX_TEXT
from .process import Machine, Start

# What whoever starts a real run names besides the flow's inputs.
_STAND_INS = {ROLE: "arn:aws:iam::000000000000:role/dry-run", IMAGE: "dry-run"}
Values = Mapping[str, Any]
Outcome = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Call:
    """One step to run: its name in the document, and its arguments with everything evaluated."""

    task: str
    arguments: Mapping[str, Any]

    @property
    def command(self) -> list[str]:
        application = self.arguments["AppSpecification"]
        return [*application["ContainerEntrypoint"], *application["ContainerArguments"]]

    @property
    def step(self) -> str:
        return self.command[self.command.index("--step") + 1]


# Runs a step; returns its outcome, or None when it failed.
Run = Callable[[Call], Outcome | None]


def execute(text: str, given: Values, run_id: str, machine: Machine) -> None:
    """Execute a definition with the given parameters, each step as a process of `machine`."""
    interpret(json.loads(text), given, run_id, lambda call: _started(call, given, machine))


def interpret(document: Mapping[str, Any], given: Values, run_id: str, run: Run) -> list[str]:
    """Execute a definition with the given parameters; return the names of the steps that ran.

    Raises InputError when a parameter without a default is not given, or an unknown one is, or
    when a text is longer than the service takes where it is used.
    """
    values = _values(document["Parameters"], given)
    return list(_steps(document["Steps"], values, run_id, run, {}))


def _values(declared: list[dict[str, Any]], given: Values) -> dict[str, Any]:
    defaults = {p["Name"]: p["DefaultValue"] for p in declared if "DefaultValue" in p}
    names = [parameter["Name"] for parameter in declared]
    # As when a real run is started, what is empty is not given.
    chosen = {name: value for name, value in given.items() if value != ""}
    values = {**defaults, **{n: v for n, v in _STAND_INS.items() if n in names}, **chosen}
    unknown = sorted(set(values) - set(names))
    missing = [name for name in names if name not in values]
    if unknown or missing:
        found = f"unknown input {unknown[0]!r}" if unknown else f"missing input {missing[0]!r}"
        raise InputError(f"the document: {found}", help=f"it takes {', '.join(names)}")
    return values


def _steps(
    steps: list[dict[str, Any]],
    values: Values,
    run_id: str,
    run: Run,
    outcomes: dict[str, Outcome],
) -> Iterator[str]:
    ended: set[str] = set()
    for step in steps:
        if not set(step.get("DependsOn", [])) <= ended:
            return
        if step["Type"] == "Condition":
            arguments = step["Arguments"]
            holds = all(_holds(test, outcomes) for test in arguments["Conditions"])
            branch = arguments["IfSteps" if holds else "ElseSteps"]
            yield from _steps(branch, values, run_id, run, outcomes)
            return
        yield step["Name"]
        outcome = run(_called(step, values, run_id))
        if outcome is None:
            return
        ended.add(step["Name"])
        for file in step.get("PropertyFiles", []):
            outcomes[f"Steps.{step['Name']}.PropertyFiles.{file['PropertyFileName']}"] = outcome


def _holds(test: Mapping[str, Any], outcomes: Mapping[str, Outcome]) -> bool:
    asked = test["LeftValue" if test["Type"] == "Equals" else "QueryValue"]["Std:JsonGet"]
    value = outcomes[asked["PropertyFile"]["Get"]][asked["Path"]]
    return value in ([test["RightValue"]] if test["Type"] == "Equals" else test["Values"])


def _called(step: Mapping[str, Any], values: Values, run_id: str) -> Call:
    call = Call(step["Name"], _evaluated(step["Arguments"], values, run_id))
    texts = [*call.command, *call.arguments["Environment"].values()]
    for text in texts:
        if len(text) > MAX_TEXT:
            raise InputError(
                f"{LIMITS.title} takes {MAX_TEXT} characters where a step is told {text[:40]!r}…",
                help="put the inputs into the store, as DEPLOY.md says",
            )
    return call


def _evaluated(value: Any, values: Values, run_id: str) -> Any:
    match value:
        case {"Get": name}:
            return run_id if value == RUN else values[str(name).removeprefix("Parameters.")]
        case {"Std:Join": {"On": on, "Values": parts}}:
            return str(on).join(_text(_evaluated(part, values, run_id)) for part in parts)
        case dict():
            return {key: _evaluated(item, values, run_id) for key, item in value.items()}
        case list():
            return [_evaluated(item, values, run_id) for item in value]
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _started(call: Call, given: Values, machine: Machine) -> Outcome | None:
    ended = machine.run(
        Start(
            task=call.task,
            step=call.step,
            attempt=1,
            command=lambda folder: _prepared(call, str(given[STORE]), folder),
            environment=call.arguments["Environment"],
            read=_outcome,
        )
    )
    return ended.outputs if ended.succeeded else None


def _prepared(call: Call, store_url: str, folder: Path) -> list[str]:
    """Bring the inputs to where the container finds them; return its command with those places."""
    for brought in call.arguments.get("ProcessingInputs", []):
        source = brought["S3Input"]
        _bring(source["S3Uri"], store_url, Path(_here(source["LocalPath"], folder)))
    return [_here(part, folder) for part in call.command]


def _bring(uri: str, store_url: str, folder: Path) -> None:
    key = uri.removeprefix(f"{store_url}/")
    store = open_store(store_url)
    data = store.get(key)
    store.close()
    if data is None:
        raise EnvironmentFailure(f"there is nothing at {uri}", help="compile and upload again")
    folder.mkdir(parents=True)
    (folder / key.rpartition("/")[2]).write_bytes(data)


def _here(part: str, folder: Path) -> str:
    inside = part.startswith(f"{FOLDER}/")
    return f"{folder}{part.removeprefix(FOLDER)}" if inside else part


def _outcome(folder: Path) -> Outcome | None:
    file = folder / "output" / OUTCOME / OUTCOME_FILE
    found: Outcome | None = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    return found
