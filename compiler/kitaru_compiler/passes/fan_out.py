"""Decides what stays together: a fan-out, from `.submit()` to the last use of its futures."""

from __future__ import annotations

import ast
from dataclasses import replace

from kitaru_compiler.diagnostics.rules import kit320
from kitaru_compiler.ir.build import rewrite
from kitaru_compiler.ir.nodes import Code, FlowIR, If, Node, Region, Return, durable_calls
from kitaru_compiler.ir.scope import bound_names, read_names


def fan_out(ir: FlowIR) -> FlowIR:
    """Keep submits and their joins in one region, where they run side by side in one process."""
    return replace(ir, body=rewrite(ir.body, _group))


def _group(nodes: list[Node]) -> list[Node]:
    for start, node in enumerate(nodes):
        if not isinstance(node, Code) or not _submits(node.stmt):
            continue
        end = _last_use(nodes, start)
        stmts = [stmt for inner in nodes[start : end + 1] for stmt in _stmts(inner)]
        submitted = [call.name for call in durable_calls(*stmts) if call.kind == "submit"]
        names = " and ".join(f"`{name}`" for name in dict.fromkeys(submitted))
        reason = f"the submitted calls of {names} run side by side in one process"
        region = Region(stmts, durable_calls(*stmts), kit320.RULE, reason, node.stmt)
        return [*nodes[:start], region, *_group(nodes[end + 1 :])]
    return nodes


def _submits(stmt: ast.stmt) -> bool:
    return any(call.kind == "submit" for call in durable_calls(stmt))


def _last_use(nodes: list[Node], start: int) -> int:
    futures: set[str] = set()
    end = start
    for index in range(start, len(nodes)):
        stmts = _stmts(nodes[index])
        if any(_submits(stmt) for stmt in stmts):
            for stmt in stmts:
                futures |= bound_names(stmt) | _filled(stmt)
            end = index
        elif any(read_names(stmt) & futures for stmt in stmts):
            end = index
    return end


def _filled(stmt: ast.stmt) -> set[str]:
    """Return the names that the statement may store futures into, as in `handles.append(...)`."""
    return {
        node.func.value.id
        for node in ast.walk(stmt)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and durable_calls(*node.args)
    }


def _stmts(node: Node) -> list[ast.stmt]:
    match node:
        case If(source=source):
            return [source]
        case Region(stmts):
            return stmts
        case Code(stmt) | Return(stmt):
            return [stmt]
    return []
