"""Leave a flow uncut when it sees its own frame or rebinds globals.

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

# About 380 bytes of pipeline and 4 ms of compiling each.
MAX_CALLS = 2000
INSPECTORS = frozenset({"_getframe", "currentframe"})


def uncuttable(ir: FlowIR) -> FlowIR:
    """Keep the whole flow in one process when generated code could be told from the user's."""
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
    """Keep a flow whole that would make more steps, or nest deeper, than a pipeline can."""
    fix = "loop over the inputs, or call helpers that call the checkpoints"
    return _uncut(ir, TOO_MANY_STEPS, "the flow is too large to be cut", ir.definition, fix)


def unexpected(
    ir: FlowIR, part: str, error: Exception, needs: tuple[CheckpointOptions, ...] = ()
) -> FlowIR:
    """Keep a flow whole on which `part` of the compiler failed: its own function is right.

    `needs` are the options of the checkpoints that it may call where its calls are not known.
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
