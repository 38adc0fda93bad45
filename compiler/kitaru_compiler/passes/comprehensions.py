"""Replace comprehensions over a few constants with the lists that they produce."""

from __future__ import annotations

import ast
import copy

from kitaru_compiler.ir.build import assign, at, load
from kitaru_compiler.ir.known import is_literal
from kitaru_compiler.ir.nodes import FlowIR, durable_calls
from kitaru_compiler.passes.unroll import MAX_COPIES, loop_items

# Nodes whose meaning changes when the comprehension's own scope disappears.
_SCOPED = (ast.Lambda, ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom, ast.comprehension)


def written_out(
    ir: FlowIR, node: ast.expr, bound: frozenset[str]
) -> tuple[list[ast.stmt], ast.List] | None:
    """Return `[f(1), f(2)]` for `[f(n) for n in (1, 2)]`, or None if it must stay unchanged.

    Constants that an expression cannot contain are assigned to names by statements before it.
    `bound` are the names that certainly have a value at this point: reading an unbound name raises
    a different error in a comprehension than in a list.
    """
    match node:
        case ast.ListComp(elt=elt, generators=[ast.comprehension() as loop]):
            name = _plain_target(loop)
        case _:
            return None
    items = loop_items(ir, loop.iter)
    if not name or items is None or not all(map(is_literal, items)):
        return None
    calls = durable_calls(elt)
    if not calls or len(items) * len(calls) > MAX_COPIES:
        return None
    if any(call.kind == "submit" for call in calls) or not _plain(elt, ir, bound | {name}):
        return None
    naming: list[ast.stmt] = []
    if _formats(elt, name):
        items, naming = _named(ir, items)
    copies = [_Put(name, item).visit(copy.deepcopy(elt)) for item in items]
    return naming, at(node, ast.List(copies, ast.Load()))


def _formats(elt: ast.expr, name: str) -> bool:
    """Return whether an f-string reads `name`: before Python 3.12 it cannot contain all strings."""
    strings = (node for node in ast.walk(elt) if isinstance(node, ast.JoinedStr))
    return any(isinstance(n, ast.Name) and n.id == name for s in strings for n in ast.walk(s))


def _named(ir: FlowIR, items: list[ast.expr]) -> tuple[list[ast.expr], list[ast.stmt]]:
    names = [ir.temporary("item") for _ in items]
    naming = [assign(item, name, item) for name, item in zip(names, items, strict=True)]
    return [load(item, name) for name, item in zip(names, items, strict=True)], [*naming]


def _plain_target(loop: ast.comprehension) -> str:
    if loop.is_async or loop.ifs or not isinstance(loop.target, ast.Name):
        return ""
    return loop.target.id


def _plain(elt: ast.expr, ir: FlowIR, bound: frozenset[str]) -> bool:
    nodes = list(ast.walk(elt))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return not any(isinstance(n, _SCOPED) for n in nodes) and names & ir.locals <= bound


class _Put(ast.NodeTransformer):
    """Replaces reads of a name with a constant."""

    def __init__(self, name: str, item: ast.expr) -> None:
        self._name = name
        self._item = item

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id != self._name:
            return node
        return ast.copy_location(copy.deepcopy(self._item), node)
