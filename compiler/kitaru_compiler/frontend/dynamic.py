"""Decides which calls may reach a checkpoint through a value: a table of tools, or a variable."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from kitaru_compiler.ir.nodes import DurableCall, durable_of, mark_durable, reaching
from kitaru_compiler.ir.scope import bound_names, own_nodes

# The durable calls that what a name holds may make when it is called.
Holds = Callable[[str], tuple[DurableCall, ...]]
# Builtins that look at their arguments and call none of them.
LOOKERS = frozenset({
    "all", "any", "bool", "dict", "enumerate", "id", "isinstance", "iter", "len", "list", "next",
    "print", "repr", "set", "sorted", "str", "tuple", "type", "zip",
})  # fmt: skip
SUBMITS = frozenset({"submit", "map", "product"})


@dataclass
class DynamicCalls:
    """Finds them in one function's body; `holds` answers for names of the module."""

    holds: Holds
    _variables: dict[str, tuple[DurableCall, ...]] = field(default_factory=dict)
    _locals: set[str] = field(default_factory=set)

    def mark(self, body: list[ast.stmt]) -> None:
        """Mark the calls whose callee, or one of whose arguments, may be a checkpoint."""
        self._locals = set().union(*map(bound_names, body))
        self._follow_variables(body)
        for stmt in body:
            for node in ast.walk(stmt):
                if isinstance(node, ast.Call) and durable_of(node) is None:
                    inside = self._reaches(node)
                    if inside:
                        text = ast.unparse(node.func).split("\n")[0]
                        mark_durable(node, reaching("dynamic", text, inside))

    def _follow_variables(self, body: list[ast.stmt]) -> None:
        """Learn which local variables may hold a checkpoint, until nothing new is learnt."""
        before = -1
        while before < len(self._variables):
            before = len(self._variables)
            for value, targets in _bindings(body):
                inside = self._mentioned(value)
                if inside:
                    for name in targets:
                        self._variables.setdefault(name, inside)

    def _reaches(self, call: ast.Call) -> tuple[DurableCall, ...]:
        match call.func:
            case ast.Name(id=name) if name in LOOKERS and name not in self._locals:
                values: list[ast.expr] = [keyword.value for keyword in call.keywords]
            case ast.Attribute(value=ast.Constant()):
                return ()
            case ast.Attribute(attr=method) if method not in SUBMITS:
                values = [*call.args, *(keyword.value for keyword in call.keywords)]
            case _:
                values = [call.func, *call.args, *(keyword.value for keyword in call.keywords)]
        return next(filter(None, map(self._mentioned, values)), ())

    def _mentioned(self, node: ast.expr) -> tuple[DurableCall, ...]:
        """Return what an expression may give, as far as names in it are not themselves called."""
        called = {
            id(part)
            for inner in ast.walk(node)
            if isinstance(inner, ast.Call) and durable_of(inner) is not None
            for part in ast.walk(inner.func)
        }
        names = [
            inner.id
            for inner in ast.walk(node)
            if isinstance(inner, ast.Name) and id(inner) not in called
        ]
        found = [
            self._variables.get(name, ()) if name in self._locals else self.holds(name)
            for name in names
        ]
        return next(filter(None, found), ())


def _bindings(body: list[ast.stmt]) -> Iterator[tuple[ast.expr, set[str]]]:
    for stmt in body:
        for node in own_nodes(stmt):
            match node:
                case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
                    yield value, bound_names(node)
                case ast.NamedExpr(target=ast.Name(id=name), value=value):
                    yield value, {name}
                case ast.For(target=target, iter=iterable):
                    yield iterable, bound_names(target)
