"""Run a SageMaker definition alone, in the order of the service.

A step whose predecessor failed does not run. Texts that exceed the limits of the service's API stop
the run before it starts. This is stricter than the vendor's local mode.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kitaru.errors import EnvironmentFailure, InputError
from kitaru.stores import open_store
from kitaru.wire.plan import OWN_DEFAULT
from kitaru_targets.common.parameters import EXECUTION, STORE
from kitaru_targets.dry_run.process import Machine, Start
from kitaru_targets.sagemaker.emit import IMAGE, ITEM, OUTCOME, OUTCOME_FILE, ROLE
from kitaru_targets.sagemaker.profile import FOLDER, LIMITS, MAX_ITEMS, MAX_TEXT

# Parameters of a real run in addition to the flow's inputs.
_STAND_INS = {ROLE: "arn:aws:iam::000000000000:role/dry-run", IMAGE: "dry-run"}
Values = Mapping[str, Any]
Outcome = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Call:
    """One step to run: its name in the document, and its evaluated arguments."""

    task: str
    arguments: Mapping[str, Any]

    @property
    def command(self) -> list[str]:
        application = self.arguments["AppSpecification"]
        return [*application["ContainerEntrypoint"], *application["ContainerArguments"]]

    @property
    def step(self) -> str:
        return self.command[self.command.index("--step") + 1]


# Runs a step; returns its outcome, or None on failure.
Run = Callable[[Call], Outcome | None]
# Waits at a callback; returns the answer sent to it, or None without an answer.
Wait = Callable[[str], str | None]


def execute(text: str, given: Values, run_id: str, machine: Machine) -> None:
    """Run a definition with the given parameters, each step as a process of `machine`.

    A callback continues with the answer that was passed to the dry run, once it is in the journal.
    """
    # Names of runs become execution ids. Here the run has the name of its execution.
    named = {**given, EXECUTION: given.get(EXECUTION) or run_id}
    interpret(
        json.loads(text),
        named,
        run_id,
        lambda call: _started(call, given, machine),
        lambda _: OWN_DEFAULT if machine.answered() else None,
    )


def _nobody(_: str) -> None:
    return None


def interpret(
    document: Mapping[str, Any], given: Values, run_id: str, run: Run, wait: Wait = _nobody
) -> list[str]:
    """Run a definition with the given parameters; return the names of the steps that ran.

    Raises InputError if a required parameter is missing, a parameter is unknown, or a text exceeds
    the limit of the service at its place.
    """
    own = {"Execution.PipelineName": "dry-run", "Execution.PipelineExecutionId": run_id}
    declared = _values(document["Parameters"], given)
    values = {**own, **{f"Parameters.{name}": value for name, value in declared.items()}}
    return list(_Chain(values, run, wait).steps(document["Steps"]))


def _values(declared: list[dict[str, Any]], given: Values) -> dict[str, Any]:
    defaults = {p["Name"]: p["DefaultValue"] for p in declared if "DefaultValue" in p}
    names = [parameter["Name"] for parameter in declared]
    # As at the start of a real run, empty values count as missing.
    chosen = {name: value for name, value in given.items() if value != ""}
    values = {**defaults, **{n: v for n, v in _STAND_INS.items() if n in names}, **chosen}
    unknown = sorted(set(values) - set(names))
    missing = [name for name in names if name not in values]
    if unknown or missing:
        found = f"unknown input {unknown[0]!r}" if unknown else f"missing input {missing[0]!r}"
        raise InputError(f"The document: {found}", help=f"it takes {', '.join(names)}")
    return values


@dataclass
class _Chain:
    """A run: the values for `Get`, and the outcomes that conditions read."""

    values: dict[str, Any]
    run: Run
    wait: Wait
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def steps(self, steps: list[dict[str, Any]]) -> Iterator[str]:
        """Run steps, and yield the names of those that ran."""
        ended: set[str] = set()
        for step in steps:
            if not set(step.get("DependsOn", [])) <= ended:
                return
            if step["Type"] == "Condition":
                arguments = step["Arguments"]
                holds = all(_holds(test, self.outcomes) for test in arguments["Conditions"])
                yield from self.steps(arguments["IfSteps" if holds else "ElseSteps"])
                continue
            if step["Type"] == "ForEach":
                items = self._items(step)
                yield from (f"{_body(step)['Name']}-{n}" for n in range(len(items)))
                done = self._each(step, items)
            else:
                yield step["Name"]
                done = (self._callback if step["Type"] == "Callback" else self._processing)(step)
            if not done:
                return
            ended.add(step["Name"])

    def _items(self, step: dict[str, Any]) -> list[str]:
        asked = step["Arguments"]["IterableItems"]
        if isinstance(asked, dict):
            asked = json.loads(_read(asked, self.outcomes))
        if not 0 < len(asked) <= MAX_ITEMS:
            raise InputError(f"{LIMITS.title} takes 1 to {MAX_ITEMS} items, not {len(asked)}")
        return [*asked]

    def _each(self, step: dict[str, Any], items: list[str]) -> bool:
        """Run a body once for each item, several concurrently; return whether all succeeded."""
        body = _body(step)

        def run(number: int) -> bool:
            values = {**self.values, ITEM["Get"]: items[number]}
            call = _called({**body, "Name": f"{body['Name']}-{number}"}, values)
            return self.run(call) is not None

        with ThreadPoolExecutor(step["Arguments"]["MaxConcurrency"]) as threads:
            return all([*threads.map(run, range(len(items)))])

    def _processing(self, step: dict[str, Any]) -> bool:
        outcome = self.run(_called(step, self.values))
        for file in step.get("PropertyFiles", []) if outcome else ():
            place = f"Steps.{step['Name']}.PropertyFiles.{file['PropertyFileName']}"
            self.outcomes[place] = outcome or {}
        return outcome is not None

    def _callback(self, step: dict[str, Any]) -> bool:
        answer = self.wait(step["Name"])
        for output in step["OutputParameters"]:
            place = f"Steps.{step['Name']}.OutputParameters['{output['OutputName']}']"
            self.values[place] = answer
        return answer is not None


def _body(step: Mapping[str, Any]) -> dict[str, Any]:
    (body,) = step["Arguments"]["ForEachBody"]
    return dict(body)


def _read(asked: Mapping[str, Any], outcomes: Mapping[str, Outcome]) -> str:
    place = asked["Std:JsonGet"]
    return outcomes[place["PropertyFile"]["Get"]][place["Path"]]


def _holds(test: Mapping[str, Any], outcomes: Mapping[str, Outcome]) -> bool:
    value = _read(test["LeftValue" if test["Type"] == "Equals" else "QueryValue"], outcomes)
    return value in ([test["RightValue"]] if test["Type"] == "Equals" else test["Values"])


def _called(step: Mapping[str, Any], values: Values) -> Call:
    call = Call(step["Name"], _evaluated(step["Arguments"], values))
    texts = [*call.command, *call.arguments["Environment"].values()]
    for text in texts:
        if len(text) > MAX_TEXT:
            raise InputError(
                f"{LIMITS.title} accepts {MAX_TEXT} characters per argument: {text[:40]!r}…",
                help="Put the inputs into the store, as DEPLOY.md describes.",
            )
    return call


def _evaluated(value: Any, values: Values) -> Any:
    match value:
        case {"Get": name}:
            return values[str(name)]
        case {"Std:Join": {"On": on, "Values": parts}}:
            return str(on).join(_text(_evaluated(part, values)) for part in parts)
        case dict():
            return {key: _evaluated(item, values) for key, item in value.items()}
        case list():
            return [_evaluated(item, values) for item in value]
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
            read=lambda folder: _outcome(call, folder),
        )
    )
    return ended.outputs if ended.succeeded else None


def _prepared(call: Call, store_url: str, folder: Path) -> list[str]:
    """Copy the inputs to the container's paths; return its command with those paths."""
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
        raise EnvironmentFailure(f"There is nothing at {uri}", help="compile and upload again")
    folder.mkdir(parents=True)
    (folder / key.rpartition("/")[2]).write_bytes(data)


def _here(part: str, folder: Path) -> str:
    inside = part.startswith(f"{FOLDER}/")
    return f"{folder}{part.removeprefix(FOLDER)}" if inside else part


def _outcome(call: Call, folder: Path) -> Outcome | None:
    if "ProcessingOutputConfig" not in call.arguments:
        return {}
    file = folder / "output" / OUTCOME / OUTCOME_FILE
    found: Outcome | None = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    return found
