"""Decides the order of the passes, each of which brings a flow nearer to normal form."""

from __future__ import annotations

from collections.abc import Callable

from kitaru_compiler.ir.nodes import FlowIR
from kitaru_compiler.ir.verify import verify
from kitaru_compiler.passes.branches import branches
from kitaru_compiler.passes.closures import closures
from kitaru_compiler.passes.fan_out import fan_out
from kitaru_compiler.passes.gather import gather
from kitaru_compiler.passes.hoist import hoist
from kitaru_compiler.passes.regions import regions
from kitaru_compiler.passes.ternaries import ternaries
from kitaru_compiler.passes.unroll import unroll
from kitaru_compiler.passes.whole import too_large, whole

PASSES: tuple[Callable[[FlowIR], FlowIR], ...] = (
    whole,  # a flow that looks into its own frame runs as it is
    branches,  # `if` with something durable in it becomes a node
    closures,  # no cut after a closure over a variable that changes
    unroll,  # loops over literals
    fan_out,  # submits that nothing else runs beside
    regions,  # what cannot be cut, with the reason
    ternaries,  # `x = a() if c else b()` becomes two assignments
    hoist,  # nested durable calls into temporaries, in Python's order
    gather,  # neighbouring submits become one fan-out
)


def normalise(ir: FlowIR) -> FlowIR:
    """Run every pass; the result is in normal form (see `kitaru_compiler.ir.verify`)."""
    try:
        for step in PASSES:
            ir = step(ir)
            if ir.whole:
                return ir
        verify(ir)
    except RecursionError:
        return too_large(ir)
    return ir
