"""Write `process.json`: the process that runs a flow on this machine, and its bundle."""

from __future__ import annotations

import json
from typing import Any

from kitaru.errors import UsageError
from kitaru.wire.plan import Plan
from kitaru_targets import delivery
from kitaru_targets.base import ContainerSpec, Emission
from kitaru_targets.common import parameters

SCHEMA = 1
# Placeholder for the folder of the unpacked bundle.
FOLDER = "{bundle}"


def emit(plan: Plan, wiring: ContainerSpec) -> Emission:
    """Return `process.json` for a plan with one step.

    Raises UsageError if the code is not in the store, or a name is not valid for an input.
    """
    if not wiring.leading[0].startswith("sha256:"):
        raise UsageError(
            "A process on this machine reads its code from the store.",
            help="Leave --delivery out.",
        )
    (step,) = plan.steps
    document = {
        "schema": SCHEMA,
        "flow": plan.flow,
        "bundle": wiring.leading[0],
        "requirements": list(delivery.requirements(plan)),
        "environment": dict(wiring.environment),
        "inputs": {one.name: _input(one) for one in _declared(plan, wiring)},
        "command": [
            *("-m", "kitaru.runtime", "step", "--plan", f"{FOLDER}/kitaru_build/plan.json"),
            *("--step", step.name, "--target", "local"),
        ],
    }
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    return Emission(text, {step.name: step.name}, {})


def _declared(plan: Plan, wiring: ContainerSpec) -> tuple[parameters.Declared, ...]:
    return parameters.declared(plan, wiring.store, wiring.execution)


def _input(declared: parameters.Declared) -> dict[str, Any]:
    required = declared.default is None
    return {"type": declared.type, **({} if required else {"default": declared.default})}
