"""Decides which loops become straight code: `for` over literals and short constant ranges."""

from __future__ import annotations

import ast
import copy
from dataclasses import replace

from kitaru_compiler.ir.build import assign, at, load, rewrite
from kitaru_compiler.ir.nodes import Code, FlowIR, Node, durable_calls
from kitaru_compiler.ir.scope import own_nodes
from kitaru_compiler.passes.branches import structure

MAX_COPIES = 64
RANGE = frozenset({"range"})


def unroll(ir: FlowIR) -> FlowIR:
    """Repeat the bodies of loops over literals that hold durable calls, inner loops included."""
    return replace(ir, body=rewrite(ir.body, lambda nodes: _unroll(ir, nodes, MAX_COPIES)))


def _unroll(ir: FlowIR, nodes: list[Node], budget: int) -> list[Node]:
    result: list[Node] = []
    for node in nodes:
        copies = _copies(ir, node.stmt) if isinstance(node, Code) else None
        if copies is None or len(copies) > budget:
            result.append(node)
            continue
        inner = budget // max(len(copies), 1)
        assert isinstance(node, Code) and isinstance(node.stmt, ast.For)
        before, bodies = _in_order(ir, node.stmt, copies)
        stmts = [*before, *(stmt for body in bodies for stmt in body), *node.stmt.orelse]
        result += rewrite(structure(stmts), lambda nodes, inner=inner: _unroll(ir, nodes, inner))  # type: ignore[misc]
    return result


def _in_order(
    ir: FlowIR, loop: ast.For, items: list[ast.expr]
) -> tuple[list[ast.stmt], list[list[ast.stmt]]]:
    """Return what evaluates the items, all of them before the first round, and the rounds."""
    before: list[ast.stmt] = []
    bodies = []
    for item in items:
        if not _is_constant(item):
            name = ir.temporary("item")
            before.append(assign(item, name, item))
            item = load(item, name)
        target = at(loop, ast.Assign([copy.deepcopy(loop.target)], item))
        bodies.append([target, *copy.deepcopy(loop.body)])
    return before, bodies


def _copies(ir: FlowIR, stmt: ast.stmt) -> list[ast.expr] | None:
    """Return the loop's items, or None when it must stay a loop."""
    if not isinstance(stmt, ast.For) or not durable_calls(*stmt.body):
        return None
    if any(isinstance(n, ast.Break | ast.Continue) for s in stmt.body for n in own_nodes(s)):
        return None
    return loop_items(ir, stmt.iter)


def loop_items(ir: FlowIR, iterable: ast.expr) -> list[ast.expr] | None:
    """Return the items of a list or tuple display or a constant range, or None.

    A named list may grow while it is iterated: it stays a loop.
    """
    match iterable:
        case ast.List(elts=elts) | ast.Tuple(elts=elts):
            starred = any(isinstance(item, ast.Starred) for item in elts)
            return None if starred or len(elts) > MAX_COPIES else copy.deepcopy(elts)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if 1 <= len(args) <= 3:
            bounds = [_integer(argument) for argument in args]
            if None in bounds or not ir.is_builtin(name, RANGE) or bounds[2:] == [0]:
                return None
            values = range(*bounds)  # type: ignore[arg-type]
            if values[MAX_COPIES : MAX_COPIES + 1]:
                return None
            return [at(iterable, ast.Constant(value)) for value in values]
    return None


def _is_constant(node: ast.expr) -> bool:
    match node:
        case ast.Constant():
            return True
        case ast.UnaryOp(operand=operand):
            return isinstance(operand, ast.Constant) and isinstance(operand.value, int | float)
        case ast.Tuple(elts=elts):
            return all(map(_is_constant, elts))
    return False


def _integer(node: ast.expr) -> int | None:
    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))):
            return -value
    return None
