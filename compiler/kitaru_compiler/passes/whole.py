"""Decides which flows are never cut: those that see their own frame or rebind globals."""

from __future__ import annotations

import ast
from dataclasses import replace

from kitaru_compiler.diagnostics.rules import kit319
from kitaru_compiler.ir.nodes import FlowIR, Region, durable_calls

FRAME_READERS = frozenset({"locals", "vars", "dir", "eval", "exec", "globals"})


def whole(ir: FlowIR) -> FlowIR:
    """Keep the whole flow in one process when generated code could be told from the user's."""
    for stmt in ir.definition.body:
        for node in ast.walk(stmt):
            if why := _sees_its_frame(node):
                body = ir.definition.body
                reason = f"{why}: the whole flow stays in one step"
                fix = "pass what it needs as arguments to a function at module level"
                region = Region(body, durable_calls(*body), kit319.RULE, reason, node, fix)
                return replace(ir, whole=region)
    return ir


def _sees_its_frame(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) if name in FRAME_READERS:
            return f"`{name}` sees the names of the running function"
        case ast.Global(names=names):
            return f"`global {', '.join(names)}` shares a variable with the module"
        case ast.Attribute(attr="_getframe"):
            return "`_getframe` sees the running function"
    return ""
