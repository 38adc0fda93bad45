"""Builtins whose effect on frames, functions and generators is known, and literal expressions."""

from __future__ import annotations

import ast
import builtins

BUILTINS = frozenset(dir(builtins))
FRAME_READERS = frozenset({"locals", "vars", "dir", "eval", "exec", "globals"})
# These exhaust the function or generator before they return, so it does not outlive its statement.
CONSUMERS = frozenset(
    {"all", "any", "dict", "frozenset", "list", "max", "min", "set", "sorted", "sum", "tuple"}
)


def is_literal(node: ast.expr) -> bool:
    """Return whether `node` is a constant, a signed number, or a tuple of these."""
    match node:
        case ast.Constant():
            return True
        case ast.UnaryOp(operand=ast.Constant(value=int() | float() | complex())):
            return True
        case ast.Tuple(elts=elts):
            return all(map(is_literal, elts))
    return False
