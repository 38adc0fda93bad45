"""Write the document: a script that runs the steps in order, each checking its guard."""

from __future__ import annotations

from kitaru_targets.base import ContainerSpec, Emission
from kitaru_targets.common import chain, parameters, variables

from kitaru.wire.plan import Plan

from .script import Script, render


def emit(plan: Plan, wiring: ContainerSpec) -> Emission:
    """Return `run.sh` for a plan; raise UsageError when an input cannot be a variable."""
    parameters.declared(plan, wiring.store, wiring.execution)
    pairs = [f"{n}={v}" for n, v in variables.environment(wiring.environment).items()]
    steps = chain.steps_in(plan.layout)
    script = Script(
        command=("env", *pairs, *wiring.command, *wiring.leading),
        steps=steps,
        store=wiring.store,
        execution=wiring.execution,
    )
    return Emission(render(script), {name: name for name in steps}, {})
