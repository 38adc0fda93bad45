"""Find the calls of `kitaru.register_codec`, which register codecs for classes.

A step must run them before it decodes its first value. An import runs those at the top level of a
module. Others depend on the code that the step runs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TypeGuard

from kitaru.wire.structs import Struct
from kitaru_compiler.frontend.source import Source

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_BRANCHES = (ast.If, ast.While, ast.Match, ast.ExceptHandler, ast.IfExp, ast.BoolOp)


class Registration(Struct):
    """A call of `register_codec` for the class `cls`, if the class is named explicitly.

    `inside` is empty if each import of the module makes the call. Otherwise it names the enclosing
    construct, such as `a function`.
    """

    call: ast.Call
    cls: ast.expr | None
    inside: str


def registrations(source: Source) -> list[Registration]:
    """Return the registrations in a file, in source order."""
    if "register_codec" not in source.text:
        return []
    names = set(_names(source))
    return sorted(_found(source.tree, names), key=lambda one: one.call.lineno)


def registers(source: Source) -> bool:
    """Return whether importing the file registers a codec."""
    return any(not one.inside for one in registrations(source))


def _names(source: Source) -> Iterator[str]:
    """Yield the names of `kitaru.register_codec` in the file."""
    for node in source.nodes.imports:
        match node:
            case ast.Import(names=names):
                for alias in names:
                    if alias.name == "kitaru":
                        yield f"{alias.asname or 'kitaru'}.register_codec"
            case ast.ImportFrom(module="kitaru", names=names, level=0):
                for alias in names:
                    if alias.name == "register_codec":
                        yield alias.asname or alias.name


def _found(tree: ast.Module, names: set[str]) -> Iterator[Registration]:
    pending: list[tuple[ast.AST, str]] = [(tree, "")]
    while pending:
        node, inside = pending.pop()
        if isinstance(node, ast.ClassDef):
            for decorator in node.decorator_list:
                if _is_registration(decorator, names):
                    yield Registration(decorator, ast.Name(node.name), inside)
        elif _is_registration(node, names) and node.args:
            yield Registration(node, node.args[0], inside)
        below = inside
        if isinstance(node, _FUNCTIONS):
            below = "a function"
        elif isinstance(node, _BRANCHES):
            below = inside or "a branch"
        pending += [(child, below) for child in ast.iter_child_nodes(node)]


def _is_registration(node: ast.AST, names: set[str]) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in names
