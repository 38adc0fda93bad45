"""Build small AST nodes. Each has the position of the code that it stands for."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TypeVar

from kitaru_compiler.ir.nodes import If, Node, Scope

T = TypeVar("T", bound=ast.AST)


def at(place: ast.AST, node: T) -> T:
    """Give `node`, and all in it that has no position, the position of `place`; return it."""
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
    """Apply `change` to every list of nodes, the arms of branches and the scopes first."""
    for node in nodes:
        if isinstance(node, If | Scope):
            node.body = rewrite(node.body, change)
        if isinstance(node, If):
            node.orelse = rewrite(node.orelse, change)
    return change(nodes)
