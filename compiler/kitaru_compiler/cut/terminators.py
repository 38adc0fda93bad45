"""Terminators: the last statement of a block names the next block or ends the flow."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Mapping

from kitaru_compiler.cut.basic_blocks import DraftBlock, Jump
from kitaru_compiler.ir.build import at
from kitaru_compiler.ir.exits import exit_of
from kitaru_compiler.ir.nodes import Activation, Arguments
from kitaru_compiler.ir.scope import own_statements

# Creates the end of an arm or body that falls through, or the replacement of `return value`.
After = Callable[[ast.AST], list[ast.stmt]]
Leave = Callable[[ast.AST, ast.expr | None], ast.stmt]


def goes_on_at(block: DraftBlock) -> After:
    """Return the terminator of an arm that continues at `block`."""
    return lambda place: [jump(block, place)]


def leaves(leave: Leave) -> After:
    """Return the statement at the end of a function's body: the function returns None."""
    return lambda place: [leave(place, None)]


def jump(block: DraftBlock, place: ast.AST) -> ast.stmt:
    """Return the statement `return <block>, locals()`."""
    return _jump(block, place, _locals())


def call(block: DraftBlock, activation: Activation, arguments: Arguments) -> ast.stmt:
    """Return the jump into a helper, with the caller's variables and the arguments by parameter.

    The arguments are evaluated first, because they may bind a variable.
    """
    assert activation.call is not None
    if not arguments:
        return jump(block, activation.call)
    names = tuple(activation.qualified(parameter) for parameter, _ in arguments)
    values = [*(value for _, value in arguments), _locals()]
    variables = ast.Dict([*map(ast.Constant, names), None], values)
    return _jump(block, activation.call, variables, names)


def result_to(block: DraftBlock, activation: Activation) -> Leave:
    """Return a terminator that passes a helper's result to `block`, where the caller continues."""

    def leave(place: ast.AST, value: ast.expr | None) -> ast.stmt:
        result = ast.Dict([ast.Constant(activation.result)], [value or ast.Constant(None)])
        return _jump(block, place, result, (activation.result,))

    return leave


def end(place: ast.AST, value: ast.expr | None) -> ast.stmt:
    """Return the statement `return None, <value>`: the end of the flow."""
    pair = ast.Tuple([ast.Constant(None), value or ast.Constant(None)], ast.Load())
    stmt = ast.Return(pair)
    stmt = at(place, stmt) if hasattr(place, "lineno") else ast.fix_missing_locations(stmt)
    stmt.jump = Jump(None)  # type: ignore[attr-defined]
    return stmt


def _locals() -> ast.Call:
    return ast.Call(ast.Name("locals", ast.Load()), [], [])


def _jump(
    block: DraftBlock, place: ast.AST, variables: ast.expr, passed: tuple[str, ...] = ()
) -> ast.stmt:
    value = ast.Tuple([ast.Constant(""), variables], ast.Load())
    stmt = at(place if hasattr(place, "lineno") else block.place, ast.Return(value))
    stmt.jump = Jump(block, passed)  # type: ignore[attr-defined]
    block.reached = True
    return stmt


def with_jumps(stmt: ast.stmt, leave: Leave, leaving: Mapping[str, After]) -> ast.stmt:
    """Replace every `return x` of the function, and every exit of a scope, with a block end."""
    if not any(isinstance(node, ast.Return) or exit_of(node) for node in own_statements(stmt)):
        return stmt
    changed = _Jumps(leave, leaving).visit(stmt)
    assert isinstance(changed, ast.stmt)
    return changed


class _Jumps(ast.NodeTransformer):
    """Copies the nodes it changes; nested functions and classes keep their own returns."""

    def __init__(self, leave: Leave, leaving: Mapping[str, After]) -> None:
        self._leave = leave
        self._leaving = leaving

    def visit_Return(self, node: ast.Return) -> ast.stmt:
        return self._leave(node, node.value)

    def visit_Break(self, node: ast.Break) -> ast.stmt | list[ast.stmt]:
        label = exit_of(node)
        return self._leaving[label](node) if label else node

    def visit_Continue(self, node: ast.Continue) -> ast.stmt | list[ast.stmt]:
        label = exit_of(node)
        return self._leaving[label](node) if label else node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        node = copy.copy(node)
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                setattr(node, name, [*value])
        return super().generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return node
