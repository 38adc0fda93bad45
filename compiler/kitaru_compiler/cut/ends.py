"""Decides what a block ends with: the statement that names the next one, or ends the flow."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable

from kitaru_compiler.cut.draft import DraftBlock, Jump
from kitaru_compiler.ir.build import at
from kitaru_compiler.ir.scope import own_nodes

After = Callable[[ast.AST], list[ast.stmt]]


def jump_list(block: DraftBlock) -> After:
    """Return what ends an arm that goes on at `block`."""
    return lambda place: [jump_to(block)(place)]


def jump_to(block: DraftBlock) -> Callable[[ast.AST], ast.stmt]:
    """Return what makes the statement `return <block>, locals()`."""

    def make(place: ast.AST) -> ast.stmt:
        source = place if hasattr(place, "lineno") else block.place
        value = ast.Tuple(
            [ast.Constant(""), ast.Call(ast.Name("locals", ast.Load()), [], [])], ast.Load()
        )
        stmt = at(source, ast.Return(value))
        stmt.jump = Jump(block)  # type: ignore[attr-defined]
        return stmt

    return make


def end(place: ast.AST | None, value: ast.expr | None) -> ast.stmt:
    """Return the statement `return None, <value>`."""
    pair = ast.Tuple([ast.Constant(None), value or ast.Constant(None)], ast.Load())
    stmt = ast.Return(pair)
    stmt = at(place, stmt) if place is not None else ast.fix_missing_locations(stmt)
    stmt.jump = Jump(None)  # type: ignore[attr-defined]
    return stmt


def with_returns(stmt: ast.stmt) -> ast.stmt:
    """Turn every `return x` of the flow inside `stmt` into the end of a block."""
    if not any(isinstance(node, ast.Return) for node in own_nodes(stmt)):
        return stmt
    changed = _Returns().visit(stmt)
    assert isinstance(changed, ast.stmt)
    return changed


class _Returns(ast.NodeTransformer):
    """Copies what it changes; nested functions and classes keep their own returns."""

    def visit_Return(self, node: ast.Return) -> ast.stmt:
        return end(node, node.value)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        return super().generic_visit(copy.copy(node))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return node


def end_of_flow(place: ast.AST) -> list[ast.stmt]:
    """Return what ends the flow where its body does."""
    return [end(place if hasattr(place, "lineno") else None, None)]
