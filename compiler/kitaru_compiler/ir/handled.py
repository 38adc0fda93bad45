"""Code that reads the exception being handled, other than by the name in `except … as e`."""

from __future__ import annotations

import ast

# `sys.exc_info()`, `sys.exception()`, `logger.exception(…)`, `traceback.format_exc()` and similar.
READERS = frozenset({"capture_exception", "exc_info", "exception", "format_exc", "print_exc"})


def reads_exception(node: ast.AST) -> bool:
    """Return whether `node` itself reads the exception that is being handled.

    Any mention of a reader's name counts, also as a keyword (`exc_info=True`) or in a string.
    """
    match node:
        case ast.Attribute(attr=name) | ast.alias(name=name):
            return name in READERS
        case ast.Name(id=name) | ast.keyword(arg=name) | ast.Constant(value=str(name)):
            # A variable called `exception` is common and harmless.
            return name in READERS and name != "exception"
        case ast.Raise(exc=None):
            return True
    return False
