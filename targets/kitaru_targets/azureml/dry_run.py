"""Run an Azure ML job from its document alone, in the order of the service.

A shell runs each command, as on the service, after `${{…}}` expressions were replaced by the texts
themselves. A text therefore affects a command here exactly as it does there.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from kitaru.errors import InputError
from kitaru.stores import open_store
from kitaru.wire import keys
from kitaru_targets.azureml.emit import OUTCOME, program
from kitaru_targets.azureml.profile import TRANSPORT
from kitaru_targets.common import read
from kitaru_targets.common.parameters import STORE
from kitaru_targets.dry_run.process import Machine, Start

_BINDING = re.compile(r"\$\{\{([^{}]*)\}\}")
_OF_JOB = re.compile(r"parent\.jobs\.(\w+)\.outputs\.(\w+)")
_BUNDLE = re.compile(r"sha256:[0-9a-f]{64}")
_STEP = re.compile(r" --step (\S+) ")
Values = Mapping[str, Any]
Outcome = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Call:
    """One job to run: its name, its command with inputs inserted, and its variables.

    `has_code` is whether the command runs in a copy of the build's folder.
    """

    task: str
    command: str
    has_code: bool
    environment: Mapping[str, str]

    @property
    def step(self) -> str:
        found = _STEP.search(self.command)
        return found[1] if found else self.task


# Runs a job; returns its outcome, or None on failure.
Run = Callable[[Call], Outcome | None]


def execute(text: str, given: Values, run_id: str, machine: Machine) -> None:
    """Run a job with the given inputs, each command as a process of `machine`."""
    store = str(given[STORE])
    interpret(read.parse(text), given, lambda call: _started(call, store, run_id, machine))


def interpret(document: Mapping[str, Any], given: Values, run: Run) -> list[str]:
    """Run a job with the given inputs; return the names of the jobs that ran.

    Raises InputError if an input is not declared in the document.
    """
    inputs = {name: _text(value) for name, value in document["inputs"].items()}
    for name, value in given.items():
        if name not in inputs:
            raise InputError(f"The document: unknown input {name!r}.", help=f"it takes {[*inputs]}")
        # The SDK drops empty values before they reach the service.
        inputs[name] = _text(value) or inputs[name]
    jobs = document["jobs"]
    needs = {name: [m[0] for m in _OF_JOB.findall(str(jobs[name]["inputs"]))] for name in jobs}
    ran: list[str] = []
    succeeded: set[str] = set()
    for name in TopologicalSorter(needs).static_order():
        if set(needs[name]) <= succeeded:
            ran.append(name)
            if run(_called(name, jobs[name], inputs)) is not None:
                succeeded.add(name)
    return ran


def _called(name: str, job: Mapping[str, Any], inputs: Mapping[str, str]) -> Call:
    bound = {
        f"inputs.{own}": inputs[_BINDING.sub(r"\1", binding).removeprefix("parent.inputs.")]
        for own, binding in job["inputs"].items()
        if "parent.inputs." in binding
    }
    command = _replaced(job["component"]["command"], bound)
    return Call(name, command, "code" in job["component"], job["environment_variables"])


def _replaced(command: str, values: Mapping[str, str]) -> str:
    return _BINDING.sub(lambda match: values.get(match[1], match[0]), command)


def _started(call: Call, store: str, run_id: str, machine: Machine) -> Outcome | None:
    ended = machine.run(
        Start(
            task=call.task,
            step=call.step,
            attempt=1,
            command=lambda folder: _shell(call, store, folder),
            environment={**call.environment, "AZUREML_ROOT_RUN_ID": run_id},
            read=_outcome,
        )
    )
    return ended.outputs if ended.succeeded else None


def _shell(call: Call, store: str, folder: Path) -> list[str]:
    command = _replaced(call.command, {f"outputs.{OUTCOME}": str(folder / OUTCOME)})
    if call.has_code:
        code = _code(call, store, folder)
        return ["bash", "-c", f"cd {shlex.quote(str(code))} && {command}"]
    return ["bash", "-c", command]


def _code(call: Call, store: str, folder: Path) -> Path:
    """Write the files of the build that start a step to a folder, and return it."""
    found = _BUNDLE.search(call.command)
    code = folder / "code"
    code.mkdir(parents=True)
    (code / TRANSPORT.beside).write_text(program(), encoding="utf-8")
    with closing(open_store(store)) as there:
        data = there.get(keys.bundle(found[0])) if found else None
    (code / "bundle.zip").write_bytes(data or b"")
    return code


def _outcome(folder: Path) -> Outcome | None:
    file = folder / OUTCOME
    found: Outcome | None = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
