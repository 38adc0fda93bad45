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
from kitaru_targets.kfp.dry_run import Call, interpret

from kitaru.errors import ValueNotEncodable
from kitaru.runtime.steps.frames import handed_on
from kitaru.wire.plan import Granularity, Step
from tests.differential.futures import Submitted
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
        return steps.submitted.finish(steps.result[0])

    return outcome_of(outcome, path, run)


@dataclass
class _Steps:
    """The journal of one run, and what a step's process does with it.

    `frames` are the encoded frames by block. `passed` are the blocks that an earlier step ran in
    its own process, with the block where control continued.
    """

    compilation: Compilation
    path: Path
    inputs: dict[str, Any]
    outcome: Outcome
    result: list[Any] = field(default_factory=list)
    frames: dict[str, Any] = field(default_factory=dict)
    passed: dict[str, str] = field(default_factory=dict)
    remembered: dict[str, list[Any]] = field(default_factory=dict)
    submitted: Submitted = field(default_factory=Submitted)
    signals: dict[str, int] = field(default_factory=dict)

    def __call__(self, call: Call) -> Mapping[str, str]:
        step = self.compilation.plan.step(call.inputs["step"])
        if step.per_item:
            # Here a call has run by the time that it is submitted.
            assert step.entry in self.frames, "a node before its list"
            return {}
        outputs = self._called(step)
        return {**outputs, "Output": self._items(step, outputs["next"])}

    def _items(self, step: Step, following: str) -> str:
        """Return the list of a fan-out that this step's process submitted."""
        plan = self.compilation.plan
        entry = plan.step(following).entry if following != "end" else ""
        fans = [s for s in plan.steps if s.per_item and s.entry == entry]
        return '["0"]' if fans and set(fans[0].blocks) <= set(step.blocks) else "[]"

    def _called(self, step: Step) -> Mapping[str, str]:
        plan, entry = self.compilation.plan, step.entry
        if not self.result and entry == plan.blocks[0].name:
            return self._run(entry, self.inputs)
        if not self.result and entry in self.frames:
            process = self._process()
            return self._run(entry, process.variables(self.frames[entry]), process)
        if not self.result and entry in self.passed:
            return {"next": self._step_at(self.passed[entry]), "status": "go"}
        return {"next": "end", "status": "end" if self.result else "skip"}

    def _process(self) -> Process:
        known = self.remembered, self.submitted, self.signals
        return Process(self.compilation, self.path, self.outcome.trace, *known)

    def _step_at(self, block: str) -> str:
        steps = self.compilation.plan.steps
        return next(step.name for step in steps if step.entry == block and not step.per_item)

    def _run(
        self, name: str, variables: dict[str, Any], process: Process | None = None
    ) -> Mapping[str, str]:
        process = process or self._process()
        plan = self.compilation.plan
        entries = {step.entry for step in plan.steps}
        passed: list[str] = []
        while plan.block(name).kind != "flow":
            following, value = process.run(name, variables)
            if following is None:
                self.result.append(value)
                return {"next": "end", "status": "end"}
            ends, starts = plan.block(name), plan.block(following)
            variables = handed_on(ends, starts, variables, value)
            name = following
            if name in entries:
                try:
                    self.frames[name] = process.frame(name, variables)
                except ValueNotEncodable:
                    passed.append(name)
                else:
                    self.passed |= dict.fromkeys(passed, name)
                    return {"next": self._step_at(name), "status": "go"}
        self.result.append(call_flow(plan, process.module, variables))
        return {"next": "end", "status": "end"}
