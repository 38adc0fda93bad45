"""Names and expressions whose effect is known: builtins, literals, readers of an exception."""

from __future__ import annotations

import ast
import builtins

BUILTINS = frozenset(dir(builtins))
FRAME_READERS = frozenset({"locals", "vars", "dir", "eval", "exec", "globals"})
# These exhaust the function or generator before they return, so it does not outlive its statement.
CONSUMERS = frozenset(
    {"all", "any", "dict", "frozenset", "list", "max", "min", "set", "sorted", "sum", "tuple"}
)
# `sys.exc_info()`, `sys.exception()`, `logger.exception(…)`, `traceback.format_exc()` and similar.
EXCEPTION_READERS = frozenset(
    {"capture_exception", "exc_info", "exception", "format_exc", "print_exc"}
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


def reads_exception(node: ast.AST) -> bool:
    """Return whether `node` itself reads the exception that is being handled.

    Any mention of a reader's name counts, also as a keyword (`exc_info=True`) or in a string.
    """
    match node:
        case ast.Attribute(attr=name) | ast.alias(name=name):
            return name in EXCEPTION_READERS
        case ast.Name(id=name) | ast.keyword(arg=name) | ast.Constant(value=str(name)):
            # A variable called `exception` is common and harmless.
            return name in EXCEPTION_READERS and name != "exception"
        case ast.Raise(exc=None):
            return True
    return False
