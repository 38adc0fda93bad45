"""Decides which calls may reach a checkpoint through a value: a table, a variable, an object."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from kitaru_compiler.frontend.names import Symbol
from kitaru_compiler.ir.nodes import durable_of
from kitaru_compiler.ir.scope import argument_names, bound_names, own_nodes

# The checkpoints and functions that a name of the module may be, or hold.
Holds = Callable[[str], Iterable[Symbol]]
# The methods of that name, of whatever class of the project.
Methods = Callable[[str], Iterable[Symbol]]
# Symbols by their absolute names, in the order in which they were found.
Found = dict[str, Symbol]
Function = ast.FunctionDef | ast.AsyncFunctionDef
# Builtins that look at their arguments and call none of them.
LOOKERS = frozenset({
    "all", "any", "bool", "dict", "enumerate", "id", "isinstance", "iter", "len", "list", "next",
    "print", "repr", "set", "sorted", "str", "tuple", "type", "zip",
})  # fmt: skip
SUBMITS = frozenset({"submit", "map", "product"})


@dataclass
class DynamicCalls:
    """Finds them in one function's body; `modules` are the names in it that stand for modules."""

    holds: Holds
    methods: Methods
    modules: Callable[[str], bool]
    _variables: dict[str, Found] = field(default_factory=dict)
    _locals: set[str] = field(default_factory=set)

    def find(
        self, function: Function, known: Collection[ast.Call]
    ) -> Iterator[tuple[ast.Call, list[Symbol]]]:
        """Yield the calls in a function that may reach something, with what that is.

        `known` are the calls whose callee is certain: they may reach what is in their arguments.
        """
        self._locals = set(argument_names(function.args)).union(*map(bound_names, function.body))
        self._follow_variables(function.body)
        for stmt in function.body:
            for node in ast.walk(stmt):
                if isinstance(node, ast.Call) and durable_of(node) is None:
                    found = self._reaches(node)
                    if node not in known:
                        found.update(self._called_on(node.func))
                    if found:
                        yield node, list(found.values())

    def _follow_variables(self, body: list[ast.stmt]) -> None:
        """Learn what local variables may hold, until nothing new is learnt."""
        before = -1
        while before < (learnt := sum(map(len, self._variables.values()))):
            before = learnt
            for value, targets in _bindings(body):
                if mentioned := self._mentioned(value):
                    for name in targets:
                        self._variables.setdefault(name, {}).update(mentioned)

    def _reaches(self, call: ast.Call) -> Found:
        """Return what the callee, or somebody whom it hands its arguments to, may call of them."""
        match call.func:
            case ast.Name(id=name) if name in LOOKERS and name not in self._locals:
                values: list[ast.expr] = [keyword.value for keyword in call.keywords]
            case ast.Attribute(value=ast.Constant()):
                return {}
            case ast.Attribute(attr=method) if method not in SUBMITS:
                values = [*call.args, *(keyword.value for keyword in call.keywords)]
            case _:
                values = [call.func, *call.args, *(keyword.value for keyword in call.keywords)]
        return {name: s for value in values for name, s in self._mentioned(value).items()}

    def _called_on(self, callee: ast.expr) -> Found:
        """Return the methods that a call on some object may reach, by the method's name."""
        match callee:
            case ast.Attribute(value=ast.Constant() | ast.JoinedStr()):
                return {}
            case ast.Attribute(attr=method):
                root = callee.value
                while isinstance(root, ast.Attribute):
                    root = root.value
                if isinstance(root, ast.Name) and self._is_module(root.id):
                    return {}
            case ast.Name(id=name) if name in self._locals:
                method = "__call__"
            case ast.Subscript():
                method = "__call__"
            case _:
                return {}
        return {symbol.name: symbol for symbol in self.methods(method)}

    def _is_module(self, name: str) -> bool:
        return name not in self._locals and self.modules(name)

    def _mentioned(self, node: ast.expr) -> Found:
        """Return what an expression may give, as far as names in it are not themselves called."""
        called = {
            id(part)
            for inner in ast.walk(node)
            if isinstance(inner, ast.Call) and durable_of(inner) is not None
            for part in ast.walk(inner.func)
        }
        found: Found = {}
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and id(inner) not in called:
                found.update(self._held(inner.id))
        return found

    def _held(self, name: str) -> Found:
        if name in self._locals:
            return self._variables.get(name, {})
        return {symbol.name: symbol for symbol in self.holds(name)}


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
