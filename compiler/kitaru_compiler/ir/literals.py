"""Expressions with the same immutable value whenever they are evaluated."""

from __future__ import annotations

import ast


def is_literal(node: ast.expr) -> bool:
    """Return whether `node` is a constant, a number with a sign, or a tuple of such."""
    match node:
        case ast.Constant():
            return True
        case ast.UnaryOp(operand=ast.Constant(value=int() | float() | complex())):
            return True
        case ast.Tuple(elts=elts):
            return all(map(is_literal, elts))
    return False
