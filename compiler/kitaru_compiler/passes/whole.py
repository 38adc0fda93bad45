"""Decides which flows are never cut: those that see their own frame or rebind globals."""

from __future__ import annotations

import ast
from dataclasses import replace

from kitaru_compiler.diagnostics.rules import kit319
from kitaru_compiler.ir.nodes import FlowIR, Region, durable_calls

FRAME_READERS = frozenset({"locals", "vars", "dir", "eval", "exec", "globals"})
INSPECTORS = frozenset({"_getframe", "currentframe"})


def whole(ir: FlowIR) -> FlowIR:
    """Keep the whole flow in one process when generated code could be told from the user's."""
    if "locals" in ir.globals:
        fix = "give the module's own `locals` another name"
        return _uncut(ir, "the module binds `locals`, which steps need", ir.definition, fix)
    for stmt in ir.definition.body:
        for node in ast.walk(stmt):
            if why := _sees_its_frame(node, ir):
                fix = "pass what it needs as arguments to a function at module level"
                return _uncut(ir, why, node, fix)
    return ir


def _uncut(ir: FlowIR, why: str, place: ast.AST, fix: str) -> FlowIR:
    body = ir.definition.body
    reason = f"{why}: the whole flow stays in one step"
    return replace(ir, whole=Region(body, durable_calls(*body), kit319.RULE, reason, place, fix))


def _sees_its_frame(node: ast.AST, ir: FlowIR) -> str:
    match node:
        case ast.Name(id=name) if name == "locals" or ir.is_builtin(name, FRAME_READERS):
            return f"`{name}` sees the names of the running function"
        case ast.Global(names=names):
            return f"`global {', '.join(names)}` shares a variable with the module"
        case ast.Attribute(attr=name) | ast.Name(id=name) if name in INSPECTORS:
            return f"`{name}` sees the running function"
    return ""
