"""Find operands that evaluate to the same value after a durable call."""

from __future__ import annotations

import ast

from kitaru_compiler.ir.known import BUILTINS
from kitaru_compiler.ir.nodes import FlowIR


def same_later(
    node: ast.expr, ir: FlowIR, bound: frozenset[str], rebound: frozenset[str] = frozenset()
) -> bool:
    """Return whether `node` has the same value, or raises the same error, after a durable call.

    `bound` are the names that certainly have a value now. `rebound` are the names bound in between.
    """
    match node:
        case ast.Constant():
            return True
        case ast.Name(id=name) if name in ir.locals:
            return name in bound and name not in rebound
        case ast.Name(id=name):
            # Reading an undefined name must raise at its own position. A name that a function of
            # the module rebinds must be read at its own position.
            builtin = name in BUILTINS and name not in ir.globals
            return builtin or name in ir.constants or name in ir.temporaries
        case ast.Attribute(value=ast.Constant(value=value), attr=method):
            return hasattr(value, method)
        case ast.Attribute(value=ast.Name(id=name), attr=method):
            container = ir.containers.get(name)
            return hasattr(container, method) and same_later(node.value, ir, bound, rebound)
        case ast.Tuple(elts=elts):
            return all(isinstance(item, ast.Constant) for item in elts)
    return False


def same_callee_later(
    node: ast.expr, ir: FlowIR, bound: frozenset[str], rebound: frozenset[str]
) -> bool:
    """Like `same_later` for callees: functions of modules and classes do not change."""
    root, names = node, set()
    while isinstance(root, ast.Attribute):
        names.add(root.attr)
        root = root.value
    if names and isinstance(root, ast.Name) and root.id in ir.modules:
        return not names & ir.replaced
    return same_later(node, ir, bound, rebound)
