"""Find the checkpoints and functions that a variable of a module may contain.

Tables and registries are filled at the variable's binding, by `TOOLS["a"] = search`, by
`add(search)`, or by a decorator. Which call adds which item is known only when the modules are
imported. Therefore all objects passed to code that mentions the variable count as added to it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from kitaru_compiler.frontend.names import Names, Symbol, dotted_name
from kitaru_compiler.frontend.source import Source
from kitaru_compiler.ir.walk import children, walk

Function = ast.FunctionDef | ast.AsyncFunctionDef
# Symbols by absolute name, in the order in which they were found.
Found = dict[str, Symbol]
# Containers that do not call their content.
_CONTAINERS = frozenset({"OrderedDict", "defaultdict", "deque", "dict", "list", "set", "tuple"})


@dataclass
class Tables:
    """Finds the content of variables; `sources` are the project's modules."""

    names: Names
    sources: tuple[Source, ...]
    _variables_of: dict[str, set[str]] = field(default_factory=dict)

    def held(self, variable: str) -> Iterable[Symbol]:
        """Return the possible content of the variable with that absolute name."""
        return self._held.get(variable, {}).values()

    def is_object(self, variable: str) -> bool:
        """Return whether it is an object created by a call, whose methods may call its content."""
        return variable in self._objects

    @cached_property
    def _held(self) -> dict[str, Found]:
        held: dict[str, Found] = {}
        flows: list[tuple[set[str], set[str]]] = []
        for source, scope, stmt in self._statements():
            targets, values = self._parts(source, scope, stmt)
            if not targets:
                continue
            if isinstance(stmt, Function):
                found = self._itself(source, stmt)
            else:
                found = self._callables(source, scope, values)
                flows.append((targets, self._mentioned(source, scope, values)))
            for variable in targets:
                held.setdefault(variable, {}).update(found)
        _spread(held, flows)
        return held

    @cached_property
    def _objects(self) -> set[str]:
        found = set()
        for source, scope, stmt in self._statements():
            match stmt:
                case (
                    ast.Assign(targets=[*into], value=ast.Call() as call)
                    | ast.AnnAssign(target=into, value=ast.Call() as call)
                ) if dotted_name(call.func).rpartition(".")[2] not in _CONTAINERS:
                    targets = into if isinstance(into, list) else [into]
                    found |= {self._variable(source, scope, dotted_name(one)) for one in targets}
        return found

    def _statements(self) -> Iterator[tuple[Source, str, ast.stmt]]:
        """Yield the project's statements, each with its source and the top-level function."""
        for source in self.sources:
            for top in source.tree.body:
                scope = top.name if isinstance(top, Function) else ""
                for node in walk(top):
                    if isinstance(node, ast.stmt):
                        yield source, "" if node is top else scope, node

    def _parts(self, source: Source, scope: str, stmt: ast.stmt) -> tuple[set[str], list[ast.expr]]:
        """Return the variables to which a statement may add items, and the items."""
        match stmt:
            case ast.Assign(targets=into, value=value):
                values = [value]
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                into, values = [target], [value]
            case ast.AugAssign(target=target, value=value):
                into, values = [target], [value]
            case ast.For(target=target, iter=iterable):
                into, values = [target], [iterable]
            case ast.Expr(value=ast.Call() as call):
                into, values = [], [call]
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                into, values = [], stmt.decorator_list
            case _:
                return set(), []
        callees = [n.func for value in values for n in walk(value) if isinstance(n, ast.Call)]
        if isinstance(stmt, Function):
            callees += values
        variables = {self._variable(source, scope, _root(target)) for target in into}
        variables |= {self._variable(source, scope, _root(callee)) for callee in callees}
        for callee in callees:
            variables |= self._filled_by(self.names.resolve(source, callee, scope))
        return variables - {""}, values

    def _filled_by(self, symbol: Symbol | None) -> set[str]:
        """Return the variables that a function, or one of its callees, mentions."""
        if symbol is None or symbol.kind != "function":
            return set()
        if symbol.name not in self._variables_of:
            self._variables_of[symbol.name] = found = set[str]()
            source, definition = symbol.source, symbol.definition
            assert source is not None and isinstance(definition, Function)
            scope = definition.name if definition in source.tree.body else ""
            for node in (inner for stmt in definition.body for inner in walk(stmt)):
                if isinstance(node, ast.Name):
                    found.add(self._variable(source, scope, node.id))
                elif isinstance(node, ast.Call):
                    found |= self._filled_by(self.names.resolve(source, node.func, scope))
        return self._variables_of[symbol.name]

    def _variable(self, source: Source, scope: str, dotted: str) -> str:
        return self.names.variable(source, dotted, scope) if dotted else ""

    def _mentioned(self, source: Source, scope: str, values: list[ast.expr]) -> set[str]:
        return {self._variable(source, scope, name) for name in _chains(values)} - {""}

    def _callables(self, source: Source, scope: str, values: list[ast.expr]) -> Found:
        found = (self.names.lookup(source, name, scope) for name in _chains(values))
        return {s.name: s for s in found if s and s.kind in ("checkpoint", "function", "flow")}

    def _itself(self, source: Source, function: Function) -> Found:
        symbol = self.names.lookup(source, function.name)
        if symbol is None or symbol.definition is not function:
            # One of several functions with that name, or a method of a class.
            name = f"{source.module}.{function.name}:{function.lineno}"
            symbol = Symbol("function", name, source, function)
        return {symbol.name: symbol}


def _root(target: ast.expr) -> str:
    """Return the chain of names from which an item, attribute or method is reached."""
    while isinstance(target, ast.Subscript | ast.Starred | ast.Call):
        target = target.func if isinstance(target, ast.Call) else target.value
    if isinstance(target, ast.Attribute) and not dotted_name(target):
        return _root(target.value)
    return dotted_name(target)


def _chains(values: list[ast.expr]) -> Iterator[str]:
    """Yield the chains of names in expressions, without those that are called there."""
    pending: list[ast.AST] = list(reversed(values))
    while pending:
        node = pending.pop()
        if isinstance(node, ast.expr) and (name := dotted_name(node)):
            yield name
        else:
            inner = children(node)
            called = node.func if isinstance(node, ast.Call) and dotted_name(node.func) else None
            pending += reversed([part for part in inner if part is not called])


def _spread(held: dict[str, Found], flows: list[tuple[set[str], set[str]]]) -> None:
    """Propagate the content of variables to their containers, until nothing is new."""
    before = -1
    while before < (known := sum(map(len, held.values()))):
        before = known
        for targets, sources in flows:
            for target in targets:
                for source in sources & held.keys():
                    held.setdefault(target, {}).update(held[source])
