"""Find the calls of `kitaru.register_codec`, which set how objects of a class are recorded.

A step must have made them before it decodes its first value. An import makes those at the top level
of a module; others depend on what runs in the step.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeGuard

from kitaru_compiler.frontend.source import Source

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_BRANCHES = (ast.If, ast.While, ast.Match, ast.ExceptHandler, ast.IfExp, ast.BoolOp)


@dataclass(frozen=True)
class Registration:
    """A call of `register_codec` for the class `cls`, if that is written out.

    `inside` is empty where each import of the module makes the call; otherwise it is what the call
    is in, such as `a function`.
    """

    call: ast.Call
    cls: ast.expr | None
    inside: str


def registrations(source: Source) -> list[Registration]:
    """Return the registrations of a file, in the order of its text."""
    if "register_codec" not in source.text:
        return []
    names = set(_names(source))
    return sorted(_found(source.tree, names), key=lambda one: one.call.lineno)


def registers(source: Source) -> bool:
    """Return whether an import of the file registers a codec."""
    return any(not one.inside for one in registrations(source))


def _names(source: Source) -> Iterator[str]:
    """Yield what the file calls `kitaru.register_codec`."""
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
