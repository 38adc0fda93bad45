"""Find calls through a table of which every entry is a checkpoint of the module.

    TOOLS = {"search": search, "read": read}

    TOOLS[name](query)                  # certainly calls `search` or `read`
    tool = TOOLS.get(name, search)
    tool(query)

The table is written out once, at the top level, and no code of the project may change it.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from kitaru_compiler.frontend.flows import FlowDefinition
from kitaru_compiler.frontend.lower import constants
from kitaru_compiler.frontend.methods import Methods, bindings
from kitaru_compiler.frontend.names import Names, Symbol, dotted_name
from kitaru_compiler.frontend.source import Source
from kitaru_compiler.frontend.tables import Tables
from kitaru_compiler.ir.scope import argument_names, bound_in
from kitaru_compiler.ir.walk import walk

# Each choice is an arm of its own, with a step of its own.
MAX_CHOICES = 8


@dataclass
class Choosing:
    """Finds the choices of calls in functions of a project."""

    names: Names
    methods: Methods
    tables: Tables
    _constants_of: dict[str, frozenset[str]] = field(default_factory=dict)
    _changed: dict[str, bool] = field(default_factory=dict)

    def choices(self, flow: FlowDefinition, call: ast.Call) -> list[tuple[str, Symbol]]:
        """Return the checkpoints of which `call` calls one, with their names in the module."""
        own = bound_in(flow.definition)
        values = [*self._values(flow, call.func, own)]
        named: dict[str, Symbol] = {}
        for value in values:
            symbol = self._checkpoint(flow, value, own)
            if symbol is None:
                return []
            named[dotted_name(value)] = symbol
        return list(named.items()) if len(named) <= MAX_CHOICES else []

    def table(self, source: Source, name: str, scope: str) -> ast.Dict | None:
        """Return the dict that a module's name certainly is."""
        if name not in self._constants(source) or self.methods.replacing.name(name):
            return None
        value = self.names.assignment(source, name, scope)
        return value if isinstance(value, ast.Dict) else None

    def _values(self, flow: FlowDefinition, callee: ast.expr, own: set[str]) -> Iterator[ast.expr]:
        """Yield the expressions of which a callee certainly has the value; none if unknown."""
        match callee:
            case ast.Name(id=name) if name in own:
                value = _only_value(flow.definition, name)
                if value is not None and not isinstance(value, ast.Name):
                    yield from self._values(flow, value, own)
            case ast.Subscript(value=ast.Name(id=name), slice=key) if name not in own:
                entries = self._entries(flow, name)
                if isinstance(key, ast.Constant):
                    entries = [(k, v) for k, v in entries if _is_key(k, key)][-1:]
                yield from (value for _, value in entries)
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr="get"),
                args=[_, default],
                keywords=[],
            ) if name not in own and (entries := [*self._entries(flow, name)]):
                yield from [*(value for _, value in entries), default]

    def _entries(self, flow: FlowDefinition, name: str) -> list[tuple[ast.Constant, ast.expr]]:
        """Return the keys and values of a table that no code changes."""
        table = self.table(flow.source, name, flow.scope)
        if table is None or self._is_changed(name):
            return []
        pairs = zip(table.keys, table.values, strict=True)
        entries = [(key, value) for key, value in pairs if isinstance(key, ast.Constant)]
        return entries if len(entries) == len(table.values) else []

    def _is_changed(self, name: str) -> bool:
        """Return whether code of the project may change the table, or pass it on."""
        if name not in self._changed:
            uses = (use for source in self.tables.sources for use in _uses(source.tree, name))
            self._changed[name] = not all(uses)
        return self._changed[name]

    def _constants(self, source: Source) -> frozenset[str]:
        if source.module not in self._constants_of:
            self._constants_of[source.module] = constants(source.tree)
        return self._constants_of[source.module]

    def _checkpoint(self, flow: FlowDefinition, value: ast.expr, own: set[str]) -> Symbol | None:
        if not isinstance(value, ast.Name) or value.id in own:
            return None
        if value.id not in self._constants(flow.source) or self.methods.replacing.name(value.id):
            return None
        symbol = self.names.lookup(flow.source, value.id, flow.scope)
        certain = (
            symbol and symbol.kind == "checkpoint" and symbol.name not in self.methods.replaced
        )
        return symbol if certain else None


def _is_key(key: ast.Constant, wanted: ast.Constant) -> bool:
    return type(key.value) is type(wanted.value) and key.value == wanted.value


def _only_value(function: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> ast.expr | None:
    """Return the value of the only statement that binds a variable."""
    if Counter(bindings(function))[name] != 1 or name in argument_names(function.args):
        return None
    for stmt in (node for top in function.body for node in walk(top)):
        match stmt:
            case ast.Assign(targets=[ast.Name(id=bound)], value=value) if bound == name:
                return value
    return None


def _uses(tree: ast.AST, name: str) -> Iterator[bool]:
    """Yield for each use of a table whether it only reads."""
    reading = set()
    for node in walk(tree):
        match node:
            case ast.Subscript(value=ast.Name(id=found) as table, ctx=ast.Load()) if found == name:
                reading.add(table)
            case ast.Compare(ops=[ast.In() | ast.NotIn()], comparators=[ast.Name() as table]):
                reading.add(table)
            case ast.Call(
                func=ast.Attribute(
                    value=ast.Name() as table, attr="get" | "items" | "keys" | "values"
                )
            ):
                reading.add(table)
            case ast.Call(
                func=ast.Name(id="sorted" | "list" | "len" | "set" | "tuple"),
                args=[ast.Name() as table],
            ):
                reading.add(table)
            case ast.For(iter=ast.Name() as table) | ast.comprehension(iter=ast.Name() as table):
                reading.add(table)
    for node in walk(tree):
        match node:
            case ast.Name(id=found, ctx=ast.Load()) if found == name:
                yield node in reading
            case ast.Attribute(attr=found) | ast.alias(name=found) if found == name:
                yield False
            case ast.Constant(value=str(text)) if text == name:
                yield False
            case ast.alias(name="*"):
                yield False
            case ast.Name(id="globals" | "vars") | ast.Attribute(attr="__dict__"):
                yield False
