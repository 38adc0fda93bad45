"""Execute a script as a shell does: one step after the other, until one fails."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kitaru_targets.common import parameters
from kitaru_targets.dry_run.process import Machine, Start

from .script import INPUT, read
from .submit import variables


def execute(text: str, given: Mapping[str, Any], run_id: str, machine: Machine) -> None:
    """Execute a script with the given parameters, each step as a process of `machine`."""
    script = read(text)
    store = given.get(parameters.STORE) or script.store
    execution = given.get(parameters.EXECUTION) or script.execution
    told = ["--run", run_id, "--store", store, "--execution", execution, "--inputs-env", INPUT]
    told += ["--inputs-key", given.get(parameters.INPUTS, "")]
    for name in script.steps:
        command = [*script.command, "--step", name, *told]
        ended = machine.run(Start(name, name, 1, _same(command), variables(given), _nothing))
        if not ended.succeeded:
            return


def _same(command: list[str]) -> Any:
    return lambda folder: command


def _nothing(folder: Path) -> Mapping[str, str]:
    """A script's steps tell it nothing: what they decide is in the journal."""
    return {}
