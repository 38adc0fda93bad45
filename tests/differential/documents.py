"""Runs a flow as its emitted document says, within this process: order, conditions and guards."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kitaru_compiler import Compilation, compile_flow
from kitaru_targets import registry
from kitaru_targets.common import read
from kitaru_targets.common.parameters import values
from kitaru_targets.dry_run.kfp_ir import Call, interpret

from kitaru.errors import ValueNotEncodable
from kitaru.runtime.frames import handed_on
from kitaru.wire.plan import Granularity
from tests.differential.harness import Outcome, Process, call_flow, outcome_of
from tests.targets.programs import WIRING


def compile_for(path: Path, target: str, granularity: Granularity) -> Compilation:
    """Compile the flow at `path` for a target."""
    return compile_flow(path, "main", granularity=granularity, profile=registry.get(target).profile)


def run_document(
    compilation: Compilation, path: Path, inputs: dict[str, Any], target: str
) -> Outcome:
    """Run what the target's document starts; a step whose guard is false does nothing."""
    outcome = Outcome(None, [])
    steps = _Steps(compilation, path, copy.deepcopy(inputs), outcome)
    chosen = registry.get(target)
    text = chosen.emit(compilation.plan, WIRING).text
    assert chosen.validate(text) == []
    given = values(compilation.plan, inputs)

    def run() -> Any:
        interpret(read.parse(text), given, "run-1", steps)
        return steps.result[0]

    return outcome_of(outcome, path, run)


@dataclass
class _Steps:
    """The journal of one run, and what a step's process does with it.

    `frames` are the encoded frames by the block that they are for, `passed` the blocks that a step
    before went through in its own process, and where control went on.
    """

    compilation: Compilation
    path: Path
    inputs: dict[str, Any]
    outcome: Outcome
    result: list[Any] = field(default_factory=list)
    frames: dict[str, Any] = field(default_factory=dict)
    passed: dict[str, str] = field(default_factory=dict)
    remembered: dict[str, list[Any]] = field(default_factory=dict)

    def __call__(self, call: Call) -> Mapping[str, str]:
        plan = self.compilation.plan
        entry = plan.step(call.inputs["step"]).entry
        if not self.result and entry == plan.blocks[0].name:
            return self._run(entry, self.inputs)
        if not self.result and entry in self.frames:
            process = self._process()
            return self._run(entry, process.variables(self.frames[entry]), process)
        if not self.result and entry in self.passed:
            return {"next": self._step_at(self.passed[entry]), "status": "go"}
        return {"next": "end", "status": "end" if self.result else "skip"}

    def _process(self) -> Process:
        return Process(self.compilation, self.path, self.outcome.trace, self.remembered)

    def _step_at(self, block: str) -> str:
        return next(step.name for step in self.compilation.plan.steps if step.entry == block)

    def _run(
        self, name: str, variables: dict[str, Any], process: Process | None = None
    ) -> Mapping[str, str]:
        process = process or self._process()
        plan = self.compilation.plan
        entries = {step.entry for step in plan.steps}
        passed: list[str] = []
        while plan.block(name).kind != "flow":
            following, value = process.program.functions[name](variables)
            if following is None:
                self.result.append(value)
                return {"next": "end", "status": "end"}
            ends, starts = plan.block(name), plan.block(following)
            variables = handed_on(ends, starts, variables, value)
            name = following
            if name in entries:
                try:
                    self.frames[name] = process.frame(variables)
                except ValueNotEncodable:
                    passed.append(name)
                else:
                    self.passed |= dict.fromkeys(passed, name)
                    return {"next": self._step_at(name), "status": "go"}
        self.result.append(call_flow(plan, process.module, variables))
        return {"next": "end", "status": "end"}
