"""Leave a flow uncut if it reads its own frame or rebinds globals.

Before::

    print(locals())
    return draft(topic)

After::

    # the whole flow is one region: `locals` sees the names of the running function
"""

from __future__ import annotations

import ast
from dataclasses import replace

from kitaru_compiler.diagnostics.faults import HELP, describe_fault
from kitaru_compiler.diagnostics.model import Rule
from kitaru_compiler.diagnostics.rules.cutting import (
    FLOW_SEES_ITS_FRAME,
    INTERNAL_FAULT,
    TOO_MANY_STEPS,
)
from kitaru_compiler.ir.known import FRAME_READERS
from kitaru_compiler.ir.nodes import CheckpointOptions, FlowIR, Region, durable_calls

# Each call costs about 380 bytes of pipeline and 4 ms of compile time.
MAX_CALLS = 2000
INSPECTORS = frozenset({"_getframe", "currentframe"})


def uncuttable(ir: FlowIR) -> FlowIR:
    """Leave a flow uncut if its code could detect that it was replaced by generated code."""
    if "locals" in ir.globals:
        fix = "give the module's own `locals` another name"
        return _uncut(
            ir, FLOW_SEES_ITS_FRAME, "the module binds `locals`, as steps do", ir.definition, fix
        )
    if len(durable_calls(*ir.definition.body)) > MAX_CALLS:
        return too_large(ir)
    for stmt in ir.definition.body:
        for node in ast.walk(stmt):
            if why := _sees_its_frame(node, ir):
                fix = "pass what it needs as arguments to a function at module level"
                return _uncut(ir, FLOW_SEES_ITS_FRAME, why, node, fix)
    return ir


def too_large(ir: FlowIR) -> FlowIR:
    """Leave a flow uncut if it exceeds the step count or nesting depth of a pipeline."""
    fix = "loop over the inputs, or call helpers that call the checkpoints"
    return _uncut(ir, TOO_MANY_STEPS, "the flow is too large to be cut", ir.definition, fix)


def unexpected(
    ir: FlowIR, part: str, error: Exception, needs: tuple[CheckpointOptions, ...] = ()
) -> FlowIR:
    """Leave a flow uncut if `part` of the compiler failed on it: its own function is correct.

    `needs` are the options of the checkpoints that its unknown calls may reach.
    """
    why = describe_fault(part, error)
    return _uncut(ir, INTERNAL_FAULT, why, ir.definition, HELP, needs)


def _uncut(
    ir: FlowIR,
    rule: Rule,
    why: str,
    place: ast.AST,
    fix: str,
    needs: tuple[CheckpointOptions, ...] = (),
) -> FlowIR:
    body = ir.definition.body
    return replace(ir, whole=Region(body, durable_calls(*body), rule, why, place, fix, needs))


def _sees_its_frame(node: ast.AST, ir: FlowIR) -> str:
    match node:
        case ast.Name(id=name) if name == "locals" or ir.is_builtin(name, FRAME_READERS):
            return f"`{name}` sees the names of the running function"
        case ast.Global(names=names):
            return f"`global {', '.join(names)}` shares a variable with the module"
        case ast.Attribute(attr=name) | ast.Name(id=name) if name in INSPECTORS:
            return f"`{name}` sees the running function"
    return ""
