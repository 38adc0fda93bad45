"""Decides which flows are never cut: those that see their own frame or rebind globals."""

from __future__ import annotations

import ast
from dataclasses import replace

from kitaru_compiler.diagnostics.model import Rule
from kitaru_compiler.diagnostics.rules import kit319, kit324
from kitaru_compiler.ir.nodes import FlowIR, Region, durable_calls

FRAME_READERS = frozenset({"locals", "vars", "dir", "eval", "exec", "globals"})
# About 380 bytes of pipeline and 4 ms of compiling each.
MAX_CALLS = 2000
INSPECTORS = frozenset({"_getframe", "currentframe"})


def whole(ir: FlowIR) -> FlowIR:
    """Keep the whole flow in one process when generated code could be told from the user's."""
    if "locals" in ir.globals:
        fix = "give the module's own `locals` another name"
        return _uncut(ir, kit319.RULE, "the module binds `locals`, as steps do", ir.definition, fix)
    if len(durable_calls(*ir.definition.body)) > MAX_CALLS:
        return too_large(ir)
    for stmt in ir.definition.body:
        for node in ast.walk(stmt):
            if why := _sees_its_frame(node, ir):
                fix = "pass what it needs as arguments to a function at module level"
                return _uncut(ir, kit319.RULE, why, node, fix)
    return ir


def too_large(ir: FlowIR) -> FlowIR:
    """Keep a flow whole that would make more steps, or nest deeper, than a pipeline can."""
    fix = "loop over the inputs, or call helpers that call the checkpoints"
    return _uncut(ir, kit324.RULE, "the flow is too large to be cut", ir.definition, fix)


def _uncut(ir: FlowIR, rule: Rule, why: str, place: ast.AST, fix: str) -> FlowIR:
    body = ir.definition.body
    return replace(ir, whole=Region(body, durable_calls(*body), rule, why, place, fix))


def _sees_its_frame(node: ast.AST, ir: FlowIR) -> str:
    match node:
        case ast.Name(id=name) if name == "locals" or ir.is_builtin(name, FRAME_READERS):
            return f"`{name}` sees the names of the running function"
        case ast.Global(names=names):
            return f"`global {', '.join(names)}` shares a variable with the module"
        case ast.Attribute(attr=name) | ast.Name(id=name) if name in INSPECTORS:
            return f"`{name}` sees the running function"
    return ""
