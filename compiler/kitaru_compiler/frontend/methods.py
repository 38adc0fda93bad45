"""Resolve a method call that certainly reaches a method of a class of the project.

The receiver's class is certain for a variable that is bound once, to a new object of the class. It
is also certain for `self` in a method that was itself reached in this way.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from kitaru_compiler.frontend.handled import exception_reader
from kitaru_compiler.frontend.names import Names, Symbol, dotted_name
from kitaru_compiler.frontend.replacing import Replacing
from kitaru_compiler.frontend.source import Source
from kitaru_compiler.ir.scope import bound_in, bound_names

# Methods that change the meaning of a class's objects beyond its source.
_UNUSUAL = frozenset({"__new__", "__getattribute__"})
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Methods:
    """Finds the methods that functions call; `module` is the flow's module, whose imports count."""

    names: Names
    module: str

    @cached_property
    def changed(self) -> frozenset[str]:
        """The attributes that the project's code assigns or deletes on any object."""
        return frozenset(
            node.attr
            for source in self.sources
            for node in source.nodes.of(ast.Attribute)
            if not isinstance(node.ctx, ast.Load)
        )

    @cached_property
    def replaced(self) -> frozenset[str]:
        """The absolute names that the project's code assigns as attributes of its modules."""
        found = set()
        for source in self.sources:
            for node in source.nodes.of(ast.Attribute):
                if not isinstance(node.ctx, ast.Load):
                    symbol = self.names.resolve(source, node.value)
                    if symbol and symbol.kind == "module":
                        found.add(f"{symbol.name}.{node.attr}")
        return frozenset(found)

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """The project's modules."""
        project = self.names.project
        project.closure(self.module)
        return tuple(source for source in project.sources.values() if source)

    @cached_property
    def replacing(self) -> Replacing:
        """The names that the project's code replaces without a visible assignment."""
        return Replacing.of(self.sources, self._new_objects, self._absolute)

    @cached_property
    def exception_reader(self) -> str:
        """Location of code that reads an exception its caller may be handling, empty for none."""
        return next(filter(None, map(exception_reader, self.sources)), "")

    def _new_objects(self, source: Source, function: Function) -> frozenset[str]:
        """Return the locals of a function bound once, to a new object of a project's class."""
        own = bound_in(function)
        made = [(name, call.func) for name, call, _ in _constructed(function)]
        names = [
            name
            for name, callee in made
            if dotted_name(callee).partition(".")[0] not in own
            and (symbol := self.names.resolve(source, callee))
            and symbol.kind == "class"
        ]
        if not names:
            return frozenset()
        counts = Counter(bindings(function))
        return frozenset(name for name in names if counts[name] == 1)

    def _absolute(self, source: Source, chain: ast.expr) -> str:
        symbol = self.names.resolve(source, chain)
        return symbol.name if symbol else ""

    def named(self, name: str) -> list[Symbol]:
        """Return the methods with that name, in any class of the project's modules."""
        return self._by_name.get(name, [])

    @cached_property
    def _by_name(self) -> dict[str, list[Symbol]]:
        found: dict[str, list[Symbol]] = {}
        for source in self.sources:
            for owner in (stmt for stmt in source.tree.body if isinstance(stmt, ast.ClassDef)):
                for stmt in owner.body:
                    if isinstance(stmt, Function):
                        qualified = f"{source.module}.{owner.name}.{stmt.name}"
                        symbol = Symbol("function", qualified, source, stmt)
                        found.setdefault(stmt.name, []).append(symbol)
        return found

    def receivers(
        self, source: Source, function: Function, owner: Symbol | None
    ) -> dict[str, tuple[Symbol, int]]:
        """Return the class of each certain receiver in `function`, and the line of its binding.

        For a method, `owner` is its class; None for a function.
        """
        positional = [*function.args.posonlyargs, *function.args.args]
        own = bound_in(function)
        found = {
            name: self._class_of(source, call, own) for name, call, _ in _constructed(function)
        }
        lines = {name: line for name, _, line in _constructed(function)}
        if owner and positional:
            found[positional[0].arg], lines[positional[0].arg] = owner, 0
        certain = {name: symbol for name, symbol in found.items() if symbol}
        if not certain:
            return {}
        counts = Counter(bindings(function))
        return {
            name: (symbol, lines[name])
            for name, symbol in certain.items()
            if counts[name] == (lines[name] > 0)
        }

    def _class_of(self, source: Source, call: ast.Call, own: set[str]) -> Symbol | None:
        """Return the class of the object that a call creates; `own` hides names of the module."""
        root = dotted_name(call.func).partition(".")[0]
        if root in own or self.replacing.name(root):
            return None
        symbol = self.names.resolve(source, call.func)
        return symbol if symbol and symbol.kind == "class" and self._is_plain(symbol) else None

    def method(self, owner: Symbol, name: str) -> Symbol | None:
        """Return the method `name` of a class as a function, None if it may be replaced."""
        assert isinstance(owner.definition, ast.ClassDef) and owner.source is not None
        if name in self.changed or self.replacing.method(name):
            return None
        return self.names.method(owner.source, owner.definition, name)

    def _is_plain(self, symbol: Symbol) -> bool:
        """Return whether calling the class creates an object of exactly this class."""
        definition, source = symbol.definition, symbol.source
        assert isinstance(definition, ast.ClassDef) and source is not None
        decorators = [d.func if isinstance(d, ast.Call) else d for d in definition.decorator_list]
        known = [self.names.resolve(source, decorator) for decorator in decorators]
        return (
            definition in source.tree.body
            and symbol.name not in self.replaced
            and not self.replacing.name(definition.name)
            and not definition.bases
            and not definition.keywords
            and not _UNUSUAL & set().union(*map(bound_names, definition.body))
            and all(found and found.name == "dataclasses.dataclass" for found in known)
        )


def _constructed(function: Function) -> Iterator[tuple[str, ast.Call, int]]:
    """Yield the names that a function's own statements bind to the result of a call, with the line.

    `writer, critic = Agent("writer"), Agent("critic")` binds two names.
    """
    for stmt in function.body:
        match stmt:
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)) if len(
                targets
            ) == len(values) and not any(
                isinstance(part, ast.Starred) for part in (*targets, *values)
            ):
                pairs = list(zip(targets, values, strict=True))
            case ast.Assign(targets=[target], value=value):
                pairs = [(target, value)]
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                pairs = [(target, value)]
            case _:
                continue
        for target, value in pairs:
            if isinstance(target, ast.Name) and isinstance(value, ast.Call):
                yield target.id, value, stmt.end_lineno or stmt.lineno


def bindings(function: Function) -> Iterator[str]:
    """Yield a name once per statement that may bind or unbind it, including nested scopes."""
    for stmt in function.body:
        for node in ast.walk(stmt):
            match node:
                case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                    yield name
                case ast.Nonlocal(names=names) | ast.Global(names=names):
                    yield from names
                case ast.stmt() | ast.ExceptHandler() | ast.pattern():
                    plain = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
                    yield from bound_names(node) - plain
