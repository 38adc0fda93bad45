"""Decides what crosses each boundary: the variables still read, and those surely bound."""

from __future__ import annotations

import ast

from kitaru_compiler.cut.draft import DraftBlock, Jump, jumps
from kitaru_compiler.ir.nodes import FlowIR
from kitaru_compiler.ir.scope import (
    bound_names,
    certainly_bound,
    deleted_names,
    read_names,
    target_names,
)


def live_variables(blocks: list[DraftBlock], ir: FlowIR) -> dict[int, frozenset[str]]:
    """Return, by block index, the flow variables that may be read before they are bound again.

    One that nothing can have bound yet counts only where it is mentioned: there it must be known as
    a variable of the flow, so that reading it raises and never finds a global of that name.
    """
    variables = ir.locals.union(ir.temporaries)
    live: dict[int, frozenset[str]] = {}
    for block in reversed(blocks):
        live[block.index] = _before(block.body, frozenset(), live) & variables
    bindable = _bindable(blocks, ir)
    return {
        block.index: live[block.index] & (bindable[block.index] | _only_read(block))
        for block in blocks
    }


def _only_read(block: DraftBlock) -> set[str]:
    read = set[str]().union(*map(read_names, block.body))
    return read.difference(*map(bound_names, block.body))


def _bindable(blocks: list[DraftBlock], ir: FlowIR) -> dict[int, frozenset[str]]:
    """Return, by block index, the names that may have a value on entry."""
    found = {block.index: frozenset(ir.parameters) for block in blocks}
    for block in blocks:
        after = found[block.index].union(*map(bound_names, block.body))
        for target in block.next:
            if target is not None:
                found[target.index] |= after
    return found


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
                after = (after - _killed(stmt)).union(_exposed(stmt, live), *inside)
    return after


def _exposed(stmt: ast.stmt, live: dict[int, frozenset[str]]) -> frozenset[str]:
    """Return what a statement may read before it binds it, each of its parts taken by itself."""

    def part(stmts: list[ast.stmt], bound: set[str] | None = None) -> frozenset[str]:
        return _before(stmts, frozenset(), live) - (bound or set())

    match stmt:
        case ast.While(test=test, body=body, orelse=orelse):
            return part(body) | part(orelse) | read_names(test)
        case ast.For(target=target, iter=iterable, body=body, orelse=orelse):
            # The target's own reads, as in `for xs[i] in …`, are not bindings of a name.
            inside = part(body, target_names(target)) | read_names(target)
            return inside | part(orelse) | read_names(iterable)
        case ast.With(items=items, body=body):
            targets = [item.optional_vars for item in items if item.optional_vars]
            bound = set[str]().union(*map(target_names, targets))
            return part(body, bound).union(*map(read_names, items))
        case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=final):
            # An exception may come anywhere in the body: nothing there hides a read elsewhere.
            inside = part(body) | part(orelse) | part(final)
            for handler in handlers:
                inside |= part(handler.body, {handler.name} if handler.name else None)
                inside |= read_names(handler.type) if handler.type else set()
            return inside
    return frozenset(read_names(stmt))


def _killed(stmt: ast.stmt) -> set[str]:
    """Return the names whose old value nothing after a simple statement can see."""
    return deleted_names(stmt) if isinstance(stmt, ast.Delete) else certainly_bound(stmt)


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
            _join(bound, jump.target.index, now)
        elif isinstance(stmt, ast.If):
            body = _after(stmt.body, now, bound)
            orelse = _after(stmt.orelse, now, bound)
            ends = [_leaves(stmt.body), _leaves(stmt.orelse)]
            now = (body & orelse) if not any(ends) else orelse if ends[0] else body
        else:
            # A jump out of the middle of a statement knows only what held before it.
            for inner in jumps(stmt):
                if inner.target:
                    _join(bound, inner.target.index, now - deleted_names(stmt))
            now = (now | certainly_bound(stmt)) - deleted_names(stmt)
    return now


def _join(bound: dict[int, frozenset[str]], index: int, now: frozenset[str]) -> None:
    bound[index] = bound.get(index, now) & now


def _leaves(stmts: list[ast.stmt]) -> bool:
    return bool(stmts) and isinstance(stmts[-1], ast.Return | ast.Raise)
