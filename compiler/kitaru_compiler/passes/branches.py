"""Decides which `if` statements branch the plan: those with something durable in an arm."""

from __future__ import annotations

import ast
from dataclasses import replace

from kitaru_compiler.ir.nodes import Code, FlowIR, If, Node, Return, durable_calls


def branches(ir: FlowIR) -> FlowIR:
    """Turn the body into nodes; an `if` without durable calls stays the statement it is."""
    return replace(ir, body=structure([stmt for node in ir.body for stmt in _stmts(node)]))


def structure(stmts: list[ast.stmt]) -> list[Node]:
    """Return `stmts` as nodes, up to the first that surely ends the flow."""
    nodes: list[Node] = []
    for stmt in stmts:
        match stmt:
            case ast.If(test=test, body=body, orelse=orelse) if durable_calls(*body, *orelse):
                nodes.append(If(test, structure(body), structure(orelse), stmt))
            case ast.Return() if not durable_calls(stmt):
                nodes.append(Return(stmt))
            case _:
                nodes.append(Code(stmt))
        if isinstance(stmt, ast.Return | ast.Raise):
            break
    return nodes


def _stmts(node: Node) -> list[ast.stmt]:
    assert isinstance(node, Code)
    return [node.stmt]
