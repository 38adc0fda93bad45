"""The passes that bring a flow to normal form, in order.

The docstring of each pass shows source before and after it. Those examples run as tests;
`python -m tests.compiler.pass_examples NAME` shows what a pass does to a body of your own.
"""

from __future__ import annotations

from collections.abc import Callable

from kitaru_compiler.ir.nodes import FlowIR
from kitaru_compiler.ir.verify import verify
from kitaru_compiler.passes.branches import branches
from kitaru_compiler.passes.closures import closures
from kitaru_compiler.passes.fan_out import fan_out
from kitaru_compiler.passes.hoist import hoist
from kitaru_compiler.passes.merge_submits import merge_submits
from kitaru_compiler.passes.regions import regions
from kitaru_compiler.passes.ternaries import ternaries
from kitaru_compiler.passes.uncuttable import too_large, uncuttable, unexpected
from kitaru_compiler.passes.unroll import unroll

PASSES: tuple[Callable[[FlowIR], FlowIR], ...] = (
    uncuttable,  # a flow that looks into its own frame runs as it is
    branches,  # `if` with something durable in it becomes a node
    closures,  # no cut after a closure over a variable that changes
    unroll,  # loops over literals
    fan_out,  # submits that nothing else runs beside
    regions,  # what cannot be cut, with the reason
    ternaries,  # `x = a() if c else b()` becomes two assignments
    hoist,  # nested durable calls into temporaries, in Python's order
    merge_submits,  # neighbouring submits become one fan-out
    verify,  # normal form, or a fault of a pass above
)


def normalise(ir: FlowIR) -> FlowIR:
    """Run every pass; the result is in normal form (see `kitaru_compiler.ir.verify`), or whole.

    A pass that fails leaves the flow whole: what is never cut is never wrong.
    """
    for step in PASSES:
        try:
            ir = step(ir)
        except RecursionError:
            return too_large(ir)
        except Exception as error:
            return unexpected(ir, step.__name__, error)
        if ir.whole:
            return ir
    return ir
