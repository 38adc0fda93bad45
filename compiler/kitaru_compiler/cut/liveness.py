"""Decides what crosses each boundary: the variables a block may still read, and those surely bound."""

from __future__ import annotations

import ast

from kitaru_compiler.cut.blocks import DraftBlock, Jump, jumps
from kitaru_compiler.ir.nodes import FlowIR
from kitaru_compiler.ir.scope import bound_names, deleted_names, read_names


def live_variables(blocks: list[DraftBlock], ir: FlowIR) -> dict[int, frozenset[str]]:
    """Return, by block index, the flow variables that may be read before they are bound again."""
    live: dict[int, frozenset[str]] = {}
    for block in reversed(blocks):
        live[block.index] = _before(block.body, frozenset(), live) & _variables(ir)
    return live


def _variables(ir: FlowIR) -> frozenset[str]:
    return ir.locals.union(ir.temporaries)


def _before(
    stmts: list[ast.stmt], after: frozenset[str], live: dict[int, frozenset[str]]
) -> frozenset[str]:
    for stmt in reversed(stmts):
        jump: Jump | None = getattr(stmt, "jump", None)
        match stmt:
            case ast.Return() if jump and jump.target:
                after = live[jump.target.index]
            case ast.Return(value=ast.Tuple(elts=[_, value])):
                after = frozenset(read_names(value))
            case ast.If(test=test, body=body, orelse=orelse):
                arms = _before(body, after, live) | _before(orelse, after, live)
                # A walrus in the test may or may not bind: it kills nothing.
                after = arms | read_names(test)
            case _:
                inside = [live[j.target.index] for j in jumps(stmt) if j.target]
                after = (after - _killed(stmt)) | read_names(stmt)
                after = after.union(*inside)
    return after


def _killed(stmt: ast.stmt) -> set[str]:
    """Return the names whose old value nothing after a simple statement can see."""
    match stmt:
        case ast.Assign(targets=targets):
            return {n.id for t in targets for n in ast.walk(t) if _stores(n)}
        case ast.AnnAssign(target=ast.Name(id=name), value=value) if value is not None:
            return {name}
        case ast.Delete() | ast.Import() | ast.ImportFrom():
            return bound_names(stmt) | deleted_names(stmt)
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
    return set()


def _stores(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def bound_variables(blocks: list[DraftBlock], ir: FlowIR) -> dict[int, frozenset[str]]:
    """Return, by block index, the variables that certainly have a value on entry."""
    bound: dict[int, frozenset[str]] = {0: frozenset(ir.parameters)}
    for block in blocks:
        _after(block.body, bound.get(block.index, frozenset()), bound)
    return bound


def _after(
    stmts: list[ast.stmt], now: frozenset[str], bound: dict[int, frozenset[str]]
) -> frozenset[str]:
    for stmt in stmts:
        jump: Jump | None = getattr(stmt, "jump", None)
        if jump and jump.target:
            known = bound.get(jump.target.index)
            bound[jump.target.index] = now if known is None else known & now
        elif isinstance(stmt, ast.If):
            body = _after(stmt.body, now, bound)
            orelse = _after(stmt.orelse, now, bound)
            ends = [_leaves(stmt.body), _leaves(stmt.orelse)]
            now = (body & orelse) if not any(ends) else orelse if ends[0] else body
        else:
            now = (now | _killed(stmt)) - deleted_names(stmt)
    return now


def _leaves(stmts: list[ast.stmt]) -> bool:
    return bool(stmts) and isinstance(stmts[-1], ast.Return | ast.Raise)
