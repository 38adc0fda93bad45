"""Find calls that may reach a checkpoint through a value: a table, a variable, an object."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from kitaru_compiler.frontend.names import Symbol, dotted_name
from kitaru_compiler.ir.nodes import durable_of
from kitaru_compiler.ir.scope import (
    Comprehension,
    argument_names,
    bound_names,
    own_nodes,
    target_names,
)
from kitaru_compiler.ir.walk import walk

# The checkpoints and functions that a name or dotted name of the module may refer to or contain.
Holds = Callable[[str], Iterable[Symbol]]
# Whether methods of the object of a module's name may call the object's content.
Is = Callable[[str], bool]
# The methods with a name, in any class of the project.
Methods = Callable[[str], Iterable[Symbol]]
# Symbols by absolute name, in the order in which they were found.
Found = dict[str, Symbol]
Function = ast.FunctionDef | ast.AsyncFunctionDef
# Builtins that inspect their arguments and do not call them.
LOOKERS = frozenset({
    "all", "any", "bool", "dict", "enumerate", "id", "isinstance", "iter", "len", "list", "next",
    "print", "repr", "set", "sorted", "str", "tuple", "type", "zip",
})  # fmt: skip
SUBMITS = frozenset({"submit", "map", "product"})


@dataclass
class DynamicCalls:
    """Finds such calls in one function's body; `modules` are its names that refer to modules."""

    holds: Holds
    objects: Is
    methods: Methods
    modules: Is
    # Whether a module's name is certainly a dict, whose `get` calls no argument.
    dicts: Is
    # Whether the result of the callee is data that cannot be called.
    gives_data: Callable[[Symbol], bool]
    _variables: dict[str, Found] = field(default_factory=dict)
    # Variables that contain these values inside an object that was built from them.
    _made: set[str] = field(default_factory=set)
    _locals: set[str] = field(default_factory=set)
    # Names in comprehensions that refer to the comprehensions' own variables.
    _inner: set[ast.AST] = field(default_factory=set)

    def find(
        self, function: Function, known: Collection[ast.Call]
    ) -> Iterator[tuple[ast.Call, list[Symbol]]]:
        """Yield the calls in a function that may reach callables, with those callables.

        `known` are the calls with a certain callee: they may reach the callables in their
        arguments.
        """
        self._locals = set(argument_names(function.args)).union(*map(bound_names, function.body))
        self._inner = {name for stmt in function.body for name in _comprehension_variables(stmt)}
        self._follow_variables(function.body)
        for stmt in function.body:
            for node in walk(stmt):
                durable = durable_of(node)
                if isinstance(node, ast.Call) and (durable is None or durable.kind == "agent"):
                    found = self._reaches(node)
                    if node not in known:
                        found.update(self._called_on(node.func))
                    if found:
                        yield node, list(found.values())

    def _follow_variables(self, body: list[ast.stmt]) -> None:
        """Collect the possible values of local variables, until nothing new is found."""
        before = -1
        while before < (learnt := sum(map(len, self._variables.values()))):
            before = learnt
            for value, targets in _bindings(body):
                if mentioned := self._mentioned(value):
                    for name in targets:
                        self._variables.setdefault(name, {}).update(mentioned)
                    if self._makes(value):
                        self._made |= targets

    def _reaches(self, call: ast.Call) -> Found:
        """Return the callables that the callee, or a function it passes them to, may call."""
        match call.func:
            case ast.Name(id=name) if name in LOOKERS and name not in self._locals:
                values: list[ast.expr] = [keyword.value for keyword in call.keywords]
            case ast.Attribute(value=ast.Constant()):
                return {}
            case ast.Attribute(value=ast.Name(id=name), attr="get") if (
                name not in self._locals and self.dicts(name)
            ):
                return {}
            case ast.Attribute(attr=method) if method not in SUBMITS:
                values = [*call.args, *(keyword.value for keyword in call.keywords)]
                if self._is_object(call.func):
                    values.append(call.func)
            case _:
                values = [call.func, *call.args, *(keyword.value for keyword in call.keywords)]
        return {name: s for value in values for name, s in self._mentioned(value).items()}

    def _makes(self, value: ast.expr) -> bool:
        """Return whether an expression creates an object whose calls may reach checkpoints."""
        match value:
            case ast.Name() | ast.Attribute():
                return self._is_object(value)
            case ast.Call(func=ast.Name(id=name)):
                return name not in LOOKERS or name in self._locals
            case ast.Call(func=ast.Attribute()):
                return True
        return False

    def _is_object(self, chain: ast.expr) -> bool:
        dotted = dotted_name(chain)
        root = dotted.partition(".")[0]
        return root in self._made if root in self._locals else bool(root) and self.objects(dotted)

    def _called_on(self, callee: ast.expr) -> Found:
        """Return the methods that a call on an unknown object may reach, by the method's name."""
        match callee:
            case ast.Attribute(value=ast.Constant() | ast.JoinedStr()):
                return {}
            case ast.Attribute(value=ast.Name(id=name), attr="get") if (
                name not in self._locals and self.dicts(name)
            ):
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
        """Return the callables that the value of an expression may be, from names not called in it.

        The result of calling an item of a table, `TOOLS[name](query)`, is data if the item is a
        checkpoint.
        """
        called = {
            id(part)
            for inner in walk(node)
            if isinstance(inner, ast.Call) and durable_of(inner) is not None
            for called in (inner.func, *_invoked(inner))
            for part in walk(called)
        }
        entries = {
            id(part)
            for inner in walk(node)
            if isinstance(inner, ast.Call) and self._is_entry(inner.func)
            for part in walk(inner.func)
        }
        found: Found = {}
        for inner in walk(node):
            if isinstance(inner, ast.Name | ast.Attribute) and id(inner) not in called:
                held = self._held(inner)
                if id(inner) in entries:
                    held = {name: s for name, s in held.items() if not self.gives_data(s)}
                found.update(held)
        return found

    def _is_entry(self, callee: ast.expr) -> bool:
        """Return whether a callee is an item of a table or variable, not a name of the module."""
        if isinstance(callee, ast.Name):
            return callee.id in self._locals
        return not isinstance(callee, ast.Attribute)

    def _held(self, chain: ast.expr) -> Found:
        dotted = dotted_name(chain)
        root: ast.AST = chain
        while isinstance(root, ast.Attribute):
            root = root.value
        name = dotted.partition(".")[0]
        held = dict(self._variables.get(name, {}))
        if dotted and name not in self._locals and root not in self._inner:
            held.update((symbol.name, symbol) for symbol in self.holds(dotted))
        return held


def _comprehension_variables(stmt: ast.stmt) -> Iterator[ast.AST]:
    """Yield the names in comprehensions that are variables of an enclosing comprehension."""
    for node in walk(stmt):
        if isinstance(node, Comprehension):
            targets = {n for loop in node.generators for n in target_names(loop.target)}
            first = {id(part) for part in walk(node.generators[0].iter)}
            for inner in walk(node):
                if isinstance(inner, ast.Name) and inner.id in targets and id(inner) not in first:
                    yield inner


def _invoked(call: ast.Call) -> list[ast.expr]:
    """Return the flow that a call starts as a child: its calls are those of the child."""
    durable = durable_of(call)
    return call.args[:1] if durable is not None and durable.kind == "child" else []


def _roots(target: ast.expr) -> set[str]:
    """Return the variable of an assigned item or attribute, if the target is one."""
    while isinstance(target, ast.Subscript | ast.Attribute):
        target = target.value
    return {target.id} if isinstance(target, ast.Name) else set()


def _bindings(body: list[ast.stmt]) -> Iterator[tuple[ast.expr, set[str]]]:
    for stmt in body:
        for node in own_nodes(stmt):
            match node:
                case ast.Assign(targets=targets, value=value):
                    yield value, bound_names(node).union(*map(_roots, targets))
                case ast.AnnAssign(value=ast.expr() as value):
                    yield value, bound_names(node)
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name)), args=values) if (
                    not _invoked(node)
                ):
                    yield from ((value, {name}) for value in values)
                case ast.comprehension(target=target, iter=iterable):
                    yield iterable, {n.id for n in walk(target) if isinstance(n, ast.Name)}
                case ast.NamedExpr(target=ast.Name(id=name), value=value):
                    yield value, {name}
                case ast.For(target=target, iter=iterable):
                    yield iterable, bound_names(target)
