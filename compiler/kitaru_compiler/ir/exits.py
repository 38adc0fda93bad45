"""Jumps that leave a scope: `break` and `continue` of an unrolled loop."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from kitaru_compiler.ir.nodes import Code, Durable, Exit, If, Node, Region, Return, Scope
from kitaru_compiler.ir.scope import inner_statements, own_statements


def mark_exit(node: ast.stmt, label: str) -> None:
    """Mark that the jump at `node` leaves the scope `label`. Copies of the node keep the mark."""
    node.leaves = label  # type: ignore[attr-defined]


def exit_of(node: ast.AST) -> str:
    """Return the label of the scope that a jump leaves; empty if `node` is not such a jump."""
    return getattr(node, "leaves", "")


def escapes(nodes: Iterable[Node]) -> set[str]:
    """Return the labels of the enclosing scopes that code in `nodes` leaves."""
    found: set[str] = set()
    for node in nodes:
        match node:
            case Exit(label):
                found.add(label)
            case Scope(label, body):
                found |= escapes(body) - {label}
            case If(body=body, orelse=orelse):
                found |= escapes(body) | escapes(orelse)
            case Region(stmts):
                found |= _marked(*stmts)
            case Code(stmt) | Durable(stmt) | Return(stmt):
                found |= _marked(stmt)
    return found


def _marked(*stmts: ast.stmt) -> set[str]:
    return {exit_of(node) for stmt in stmts for node in own_statements(stmt)} - {""}


def own_exits(stmts: Iterable[ast.stmt]) -> Iterator[ast.Break | ast.Continue]:
    """Yield the `break` and `continue` of the loop whose body is `stmts`."""
    for stmt in stmts:
        match stmt:
            case ast.Break() | ast.Continue():
                yield stmt
            case ast.For() | ast.AsyncFor() | ast.While():
                yield from own_exits(stmt.orelse)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                pass
            case _:
                yield from own_exits(inner_statements(stmt))


def held_exit(stmts: Iterable[ast.stmt]) -> ast.Break | ast.Continue | None:
    """Return an exit of the loop with body `stmts` that changes variables on its way out.

    A `finally` may bind any name, and `except … as e` unbinds its name.
    """
    for stmt in stmts:
        match stmt:
            case ast.Try(finalbody=[_, *_]) | ast.TryStar(finalbody=[_, *_]):
                held = next(own_exits([stmt]), None)
            case ast.Try(handlers=handlers) | ast.TryStar(handlers=handlers):
                named = [inner for h in handlers if h.name for inner in h.body]
                held = next(own_exits(named), None) or held_exit(inner_statements(stmt))
            case ast.For() | ast.AsyncFor() | ast.While():
                held = held_exit(stmt.orelse)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                held = None
            case _:
                held = held_exit(inner_statements(stmt))
        if held:
            return held
    return None
