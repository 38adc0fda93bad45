"""Decides what a block ends with: the statement that names the next one, or ends the flow."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Mapping

from kitaru_compiler.cut.draft import DraftBlock, Jump
from kitaru_compiler.ir.build import at
from kitaru_compiler.ir.exits import exit_of
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
        block.reached = True
        return stmt

    return make


def end(place: ast.AST | None, value: ast.expr | None) -> ast.stmt:
    """Return the statement `return None, <value>`."""
    pair = ast.Tuple([ast.Constant(None), value or ast.Constant(None)], ast.Load())
    stmt = ast.Return(pair)
    stmt = at(place, stmt) if place is not None else ast.fix_missing_locations(stmt)
    stmt.jump = Jump(None)  # type: ignore[attr-defined]
    return stmt


def with_jumps(stmt: ast.stmt, leaving: Mapping[str, After]) -> ast.stmt:
    """Turn every `return x` of the flow, and every exit of a scope, into the end of a block."""
    if not any(isinstance(node, ast.Return) or exit_of(node) for node in own_nodes(stmt)):
        return stmt
    changed = _Jumps(leaving).visit(stmt)
    assert isinstance(changed, ast.stmt)
    return changed


class _Jumps(ast.NodeTransformer):
    """Copies what it changes; nested functions and classes keep their own returns."""

    def __init__(self, leaving: Mapping[str, After]) -> None:
        self._leaving = leaving

    def visit_Return(self, node: ast.Return) -> ast.stmt:
        return end(node, node.value)

    def visit_Break(self, node: ast.Break) -> ast.stmt | list[ast.stmt]:
        label = exit_of(node)
        return self._leaving[label](node) if label else node

    def visit_Continue(self, node: ast.Continue) -> ast.stmt | list[ast.stmt]:
        label = exit_of(node)
        return self._leaving[label](node) if label else node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        changed = copy.copy(node)
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                setattr(changed, name, list(value))
        return super().generic_visit(changed)

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
