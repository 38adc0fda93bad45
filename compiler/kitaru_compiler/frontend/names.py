"""Resolve names in a project's source to primitives, checkpoints, flows and functions.

Scopes determine the origin of a name within one file. Definitions and re-exports are followed
across the files of the project. An ambiguous name is not resolved; its meaning is decided at run
time.
"""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from kitaru.config import compile_cache
from kitaru.wire.disk_cache import DiskCache
from kitaru.wire.structs import Struct
from kitaru_compiler.frontend.project import Project
from kitaru_compiler.frontend.relevance import near_kitaru
from kitaru_compiler.frontend.scopes import Origin, Scopes
from kitaru_compiler.frontend.source import Source
from kitaru_compiler.ir.scope import bound_names
from kitaru_compiler.ir.walk import children, walk

SymbolKind = Literal["primitive", "checkpoint", "flow", "function", "class", "module"]
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


class Symbol(Struct):
    """The meaning of a name: `name` is absolute, `definition` the statement in `source`, if any.

    `options` are the arguments of the decorator that makes it a checkpoint or a flow.
    """

    kind: SymbolKind
    name: str
    source: Source | None = None
    definition: Definition | None = None
    options: tuple[ast.keyword, ...] = ()


@dataclass
class Names:
    """Resolves names across one project."""

    project: Project
    _scopes: dict[str, Scopes] = field(default_factory=dict)
    _definitions: dict[str, dict[str, Definition]] = field(default_factory=dict)
    _found: dict[tuple[str, str, str], Symbol | None] = field(default_factory=dict)
    _cache: DiskCache | None = field(default_factory=lambda: compile_cache("analyses"))
    _near: tuple[int, frozenset[str]] = (-1, frozenset())

    def near_kitaru(self) -> frozenset[str]:
        """Return the modules read so far in which a name can refer to Kitaru."""
        read = [source for source in self.project.sources.values() if source]
        if len(read) != self._near[0]:
            self._near = (len(read), near_kitaru(read))
        return self._near[1]

    def resolve(self, source: Source, expression: ast.expr, function: str = "") -> Symbol | None:
        """Resolve the name or attribute chain `expression` in `function` of `source`.

        `function` is the name of a top-level function, or empty for the module's own scope.
        """
        dotted = dotted_name(expression)
        return self.lookup(source, dotted, function) if dotted else None

    def lookup(self, source: Source, dotted: str, function: str = "") -> Symbol | None:
        """Resolve `dotted` in `function` of `source`; see `resolve`."""
        key = (source.module, function, dotted)
        if key not in self._found:
            self._found[key] = None  # a cycle of re-exports is not resolved
            self._found[key] = self._look_up(source, dotted, function)
        return self._found[key]

    def _look_up(self, source: Source, dotted: str, function: str) -> Symbol | None:
        root, _, rest = dotted.partition(".")
        origins = self._scopes_of(source).origins(root, function)
        if len(origins) != 1:
            return None
        (origin,) = origins
        if origin.kind == "module":
            return self._defined(source, dotted)
        if origin.kind != "import":
            return None
        return self._imported(_absolute(source, origin, rest), source.module)

    def assignment(self, source: Source, name: str, function: str = "") -> ast.expr | None:
        """Return the only value bound to a module's variable, None if there is another."""
        origins = self._scopes_of(source).origins(name, function)
        if {origin.kind for origin in origins} != {"module"}:
            return None
        found = self._definition(source, name)
        return found.value if isinstance(found, ast.Assign | ast.AnnAssign) else None

    def variable(self, source: Source, dotted: str, function: str = "") -> str:
        """Return the absolute name of the module variable at the start of `dotted`, or empty.

        Functions, classes and modules are not variables.
        """
        root, _, rest = dotted.partition(".")
        origins = self._scopes_of(source).origins(root, function)
        if {origin.kind for origin in origins} == {"module"}:
            found = self._definition(source, root)
            plain = found is None or isinstance(found, ast.Assign | ast.AnnAssign)
            return f"{source.module}.{root}" if plain else ""
        (origin, *others) = origins or {Origin("builtin", root)}
        if others or origin.kind != "import":
            return ""
        return self._variable_of(_absolute(source, origin, rest), source.module)

    def _variable_of(self, dotted: str, importer: str) -> str:
        parts = dotted.split(".")
        for end in range(len(parts) - 1, 0, -1):
            source = self.project.find(".".join(parts[:end]))
            if source and source.module != importer and self._binds(source, parts[end]):
                return self.variable(source, ".".join(parts[end:]))
        return ""

    def is_builtin(self, source: Source, name: str, function: str = "") -> bool:
        """Return whether `name` is an unshadowed builtin in `function` of `source`."""
        origins = self._scopes_of(source).origins(name, function)
        return [origin.kind for origin in origins] == ["builtin"]

    def _scopes_of(self, source: Source) -> Scopes:
        if source.module not in self._scopes:
            self._scopes[source.module] = Scopes(source, self._cache)
        return self._scopes[source.module]

    def store(self) -> None:
        """Store the module scopes that were read, for the next compilation."""
        for scopes in self._scopes.values():
            scopes.store()
        if self._cache is not None:
            self._cache.evict()

    def _imported(self, dotted: str, importer: str) -> Symbol | None:
        """Resolve an absolute name imported by the module `importer`.

        As in Python, a name that a package binds hides its submodule of the same name.
        """
        if dotted == "kitaru" or dotted.startswith("kitaru."):
            return Symbol("primitive", dotted.removeprefix("kitaru").removeprefix("."))
        name, *rest = dotted.split(".")
        source = self.project.find(name)
        if source is None and not self.project.is_package(name):
            return Symbol("module", dotted)
        while rest:
            if source and source.module != importer and self._binds(source, rest[0]):
                return self.lookup(source, ".".join(rest))
            name, rest = f"{name}.{rest[0]}", rest[1:]
            source = self.project.find(name)
            if source is None and not self.project.is_package(name):
                return None
        return Symbol("module", dotted, source)

    def _binds(self, source: Source, name: str) -> bool:
        origins = self._scopes_of(source).origins(name)
        return any(origin.kind != "builtin" for origin in origins)

    def _defined(self, source: Source, dotted: str) -> Symbol | None:
        name, _, rest = dotted.partition(".")
        definition = self._definition(source, name)
        if definition is None:
            return None
        if isinstance(definition, ast.Assign | ast.AnnAssign):
            return self._assigned(source, definition, rest)
        if not rest:
            return self._decorated(source, definition)
        if isinstance(definition, ast.ClassDef) and "." not in rest:
            return self._static(source, definition, rest)
        return None

    def _static(self, source: Source, owner: ast.ClassDef, name: str) -> Symbol | None:
        """Return the checkpoint that a class contains as a static method."""
        found = self.method(source, owner, name)
        if found is None or found.kind != "checkpoint" or not _is_static(found.definition):
            return None
        return found

    def method(self, source: Source, owner: ast.ClassDef, name: str) -> Symbol | None:
        """Return a class's single definition of `name`: its function or a checkpoint."""
        bound = [stmt for stmt in owner.body if name in bound_names(stmt)]
        definition = bound[0] if len(bound) == 1 else None
        if not isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef):
            return None
        qualified = f"{source.module}.{owner.name}.{name}"
        decorators = definition.decorator_list[_is_static(definition) :]
        if len(decorators) == 1:
            kind, options = self._decorator(source, decorators[0])
            if kind == "checkpoint":
                return Symbol(kind, qualified, source, definition, options)
        return Symbol("function", qualified, source, definition)

    def _definition(self, source: Source, name: str) -> Definition | None:
        if source.module not in self._definitions:
            self._definitions[source.module] = _definitions(source)
        return self._definitions[source.module].get(name)

    def _assigned(
        self, source: Source, definition: ast.Assign | ast.AnnAssign, rest: str
    ) -> Symbol | None:
        value = definition.value
        if value is None:
            return None
        alias = dotted_name(value)
        if alias:
            return self.lookup(source, f"{alias}.{rest}" if rest else alias)
        if rest or not isinstance(value, ast.Call) or len(value.args) != 1:
            return None
        kind, options = self._decorator(source, value.func)
        wrapped = self.resolve(source, value.args[0]) if kind else None
        if not kind or not wrapped or not isinstance(wrapped.definition, ast.FunctionDef):
            return None
        return Symbol(kind, wrapped.name, wrapped.source, wrapped.definition, options)

    def _decorated(
        self, source: Source, definition: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    ) -> Symbol | None:
        name = f"{source.module}.{definition.name}"
        if isinstance(definition, ast.ClassDef):
            return Symbol("class", name, source, definition)
        if not definition.decorator_list:
            return Symbol("function", name, source, definition)
        kind, options = self._decorator(source, definition.decorator_list[0])
        if kind and len(definition.decorator_list) == 1:
            return Symbol(kind, name, source, definition, options)
        # Other decorators may replace the function. It exists, but its behaviour is unknown.
        return Symbol("function", name, source, definition)

    def _decorator(
        self, source: Source, expression: ast.expr
    ) -> tuple[Literal["checkpoint", "flow"] | None, tuple[ast.keyword, ...]]:
        options: tuple[ast.keyword, ...] = ()
        if isinstance(expression, ast.Call):
            options = tuple(expression.keywords)
            expression = expression.func
        symbol = self.resolve(source, expression)
        if symbol is None or symbol.kind != "primitive":
            return None, ()
        if symbol.name == "checkpoint":
            return "checkpoint", options
        return ("flow", options) if symbol.name == "flow" else (None, ())


def _is_static(definition: Definition | None) -> bool:
    decorators = getattr(definition, "decorator_list", [])
    return bool(decorators) and dotted_name(decorators[0]) == "staticmethod"


def _absolute(source: Source, origin: Origin, rest: str) -> str:
    """Return the absolute name of `rest` in an import of a module."""
    level = len(origin.name) - len(origin.name.lstrip("."))
    name = source.absolute(level, origin.name[level:])
    return f"{name}.{rest}" if rest else name


def dotted_name(expression: ast.expr) -> str:
    """Return `a.b.c` for a chain of names, or an empty string for other expressions."""
    parts: list[str] = []
    while isinstance(expression, ast.Attribute):
        parts.append(expression.attr)
        expression = expression.value
    if not isinstance(expression, ast.Name):
        return ""
    return ".".join([expression.id, *reversed(parts)])


def _definitions(source: Source) -> dict[str, Definition]:
    """Return the definition of each module-level name that is bound exactly once."""
    bindings: Counter[str] = Counter()
    found: dict[str, Definition] = {}
    for node in _module_level(source.tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                bindings[node.name] += 1
                found[node.name] = node
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                bindings[name] += 1
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = node
            case ast.Global(names=names):
                bindings.update(names)
    return {name: node for name, node in found.items() if bindings[name] == 1}


def _module_level(tree: ast.Module) -> list[ast.AST]:
    """Return the nodes that run with the module, and every `global` statement of its functions."""
    found: list[ast.AST] = []
    pending: list[ast.AST] = list(reversed(tree.body))
    while pending:
        node = pending.pop()
        found.append(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            found += [child for child in walk(node) if isinstance(child, ast.Global)]
        else:
            pending += reversed(children(node))
    return found
