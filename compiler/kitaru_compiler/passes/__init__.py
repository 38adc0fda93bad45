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
from kitaru_compiler.passes.dispatch import dispatch
from kitaru_compiler.passes.fan_out import fan_out
from kitaru_compiler.passes.gathers import gathers
from kitaru_compiler.passes.hoist import hoist
from kitaru_compiler.passes.local_functions import LocalFunctionStays, local_functions
from kitaru_compiler.passes.merge_submits import merge_submits
from kitaru_compiler.passes.regions import regions
from kitaru_compiler.passes.tasks import tasks
from kitaru_compiler.passes.ternaries import ternaries
from kitaru_compiler.passes.uncuttable import too_large, uncuttable, unexpected
from kitaru_compiler.passes.unroll import unroll

PASSES: tuple[Callable[[FlowIR], FlowIR], ...] = (
    uncuttable,  # a flow that reads its own frame runs unchanged
    branches,  # `if` statements with durable code become nodes
    closures,  # no cut after a closure over a variable that changes
    unroll,  # loops over literals
    gathers,  # `gather` and task groups of checkpoints become submits
    tasks,  # tasks and coroutines stay in one process up to their last use
    fan_out,  # submits that run alongside no other call
    dispatch,  # calls through a table become branches
    regions,  # code that cannot be cut, with the reason
    ternaries,  # `x = a() if c else b()` becomes two assignments
    hoist,  # nested durable calls move to temporaries, in Python's order
    merge_submits,  # adjacent submits become one fan-out
    local_functions,  # define inlined functions again in regions
    verify,  # check the normal form; a violation is a fault of a pass
)


def normalise(ir: FlowIR) -> FlowIR:
    """Run every pass; the result is in normal form (see `kitaru_compiler.ir.verify`) or uncut.

    If a pass fails, the flow stays uncut: an uncut flow is always correct. Raises
    LocalFunctionStays if the calls of a local function cannot be inlined.
    """
    for step in PASSES:
        try:
            ir = step(ir)
        except LocalFunctionStays:
            raise
        except RecursionError:
            return too_large(ir)
        except Exception as error:
            return unexpected(ir, step.__name__, error)
        if ir.whole:
            return ir
    return ir
