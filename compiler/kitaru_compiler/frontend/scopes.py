"""Find the origin of a name in a module: an import, a definition, a variable or a builtin.

Follows Python's rules for a module's own scope and those of its top-level functions: a name bound
anywhere in a function is local to the whole function, unless it is declared `global`.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from kitaru.wire.disk_cache import DiskCache
from kitaru.wire.structs import Struct
from kitaru_compiler.frontend.analysis import Analysis
from kitaru_compiler.frontend.source import Source
from kitaru_compiler.ir.scope import Bound, Comprehension, Function, argument_names, definition_time
from kitaru_compiler.ir.walk import children, walk


class Origin(Struct):
    """The origin of a name: `name` is the imported name, with a dot for each relative level."""

    kind: Literal["import", "module", "local", "builtin"]
    name: str


Bindings = dict[str, set[Origin]]


@dataclass
class Scopes:
    """The scopes of one module; the scope of a function is read when it is first needed."""

    source: Source
    cache: DiskCache | None = None
    _read: dict[str, tuple[Bindings, frozenset[str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._analysis = Analysis(self.source, self.cache)
        self._functions = {
            stmt.name: stmt
            for stmt in self.source.tree.body
            if isinstance(stmt, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        bindings, _ = self._origins(self._analysis.module(self._module_by_ast), "module")
        # A function with a `global` statement may bind the name whenever it is called.
        for node in self.source.nodes.of(ast.Global):
            for name in node.names:
                bindings.setdefault(name, set()).add(Origin("module", name))
        self._module = bindings

    def store(self) -> None:
        """Store the scopes that were read, for the next compilation."""
        self._analysis.store()

    def origins(self, name: str, function: str = "") -> set[Origin]:
        """Return the possible origins of `name` in the top-level `function`, or in the module.

        There are several if it is bound in several ways, and none if no statement binds it.
        """
        bindings, outside = self._function(function)
        if name in bindings and name not in outside:
            return bindings[name]
        if name in self._module:
            return self._module[name]
        return {Origin("builtin", name)} if hasattr(builtins, name) else set()

    def _function(self, name: str) -> tuple[Bindings, frozenset[str]]:
        """Return the names that a function binds, and those that it leaves to the module."""
        if name not in self._functions:
            return {}, frozenset()
        if name not in self._read:
            definition = self._functions[name]
            bound = self._analysis.function(definition, lambda: _function_by_ast(definition))
            self._read[name] = self._origins(bound, "local")
        return self._read[name]

    @staticmethod
    def _origins(bound: Bound, kind: Literal["module", "local"]) -> tuple[Bindings, frozenset[str]]:
        bindings = {
            name: {Origin("import", place) if place else Origin(kind, name) for place in places}
            for name, places in bound.names.items()
        }
        return bindings, frozenset(bound.outside)

    def _module_by_ast(self) -> Bound:
        return _bound_by_ast(list(_scope_nodes(self.source.tree.body)))


def _function_by_ast(definition: ast.FunctionDef | ast.AsyncFunctionDef) -> Bound:
    nodes = list(_scope_nodes(definition.body))
    found = _bound_by_ast(nodes)
    for argument in argument_names(definition.args):
        found.names.setdefault(argument, []).append("")
    declared = (node.names for node in nodes if isinstance(node, ast.Global))
    found.outside.extend(name for names in declared for name in names)
    return found


def _scope_nodes(body: Iterable[ast.stmt]) -> Iterator[ast.AST]:
    """Yield the nodes evaluated in the scope of `body`, at any depth."""
    pending: list[ast.AST] = list(body)
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, Function | ast.ClassDef):
            pending += definition_time(node)
        else:
            pending += children(node)


def _bound_by_ast(nodes: list[ast.AST]) -> Bound:
    found = Bound({}, [])
    hidden = _comprehension_targets(nodes)
    for node in nodes:
        if node not in hidden:
            for name, imported in _bound(node):
                found.names.setdefault(name, []).append(imported)
    return found


def _comprehension_targets(nodes: list[ast.AST]) -> set[ast.AST]:
    return {
        inner
        for node in nodes
        if isinstance(node, Comprehension)
        for generator in node.generators
        for inner in walk(generator.target)
    }


def _bound(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the names that a node binds, with the imported name of each."""
    match node:
        case ast.Import(names=names):
            for alias in names:
                # Without `as`, the first package is bound.
                first = alias.name.partition(".")[0]
                target = alias.name if alias.asname else first
                yield alias.asname or first, target
        case ast.ImportFrom(module=module, names=names, level=level):
            base = "." * level + (f"{module}." if module else "")
            for alias in names:
                yield alias.asname or alias.name, base + alias.name
        case _:
            name = _named(node)
            if name:
                yield name, ""


def _named(node: ast.AST) -> str | None:
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return name
        case ast.ExceptHandler(name=name) | ast.MatchAs(name=name) | ast.MatchStar(name=name):
            return name
        case ast.MatchMapping(rest=name):
            return name
    return None
