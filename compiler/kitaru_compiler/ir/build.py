"""Build small AST nodes. Each has the position of the source code that it replaces."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TypeVar

from kitaru_compiler.ir.nodes import If, Node, Scope

T = TypeVar("T", bound=ast.AST)


def at(place: ast.AST, node: T) -> T:
    """Set the position of `node` and its inner nodes, where missing, to that of `place`."""
    for child in ast.walk(node):
        if "lineno" in child._attributes and not hasattr(child, "lineno"):
            ast.copy_location(child, place)
    return node


def load(place: ast.AST, name: str) -> ast.Name:
    """Return a read of variable `name`."""
    return at(place, ast.Name(name, ast.Load()))


def assign(place: ast.AST, name: str, value: ast.expr) -> ast.Assign:
    """Return `name = value`."""
    return at(place, ast.Assign([ast.Name(name, ast.Store())], value))


def rewrite(nodes: list[Node], change: Callable[[list[Node]], list[Node]]) -> list[Node]:
    """Apply `change` to every list of nodes, lists in branches and scopes first."""
    for node in nodes:
        if isinstance(node, If | Scope):
            node.body = rewrite(node.body, change)
        if isinstance(node, If):
            node.orelse = rewrite(node.orelse, change)
    return change(nodes)
