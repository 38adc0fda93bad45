"""Find local functions that are only called, so that their bodies can be inlined at their calls.

    def ask(question):                  # reads `topic` of the flow whenever it is called
        return answer(question, topic)

Such a function shares variables with the function that contains it, but it leaves nothing behind.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from kitaru.wire.structs import Struct
from kitaru_compiler.frontend.flows import FlowDefinition
from kitaru_compiler.frontend.lower import constants
from kitaru_compiler.frontend.methods import bindings
from kitaru_compiler.ir.known import BUILTINS, is_literal
from kitaru_compiler.ir.nodes import DurableCall, durable_of
from kitaru_compiler.ir.scope import (
    Function,
    argument_names,
    bound_in,
    captured_names,
    certainly_bound,
    deleted_names,
)
from kitaru_compiler.ir.walk import walk

Place = tuple[int, int]


class LocalFunction(Struct):
    """A local function called `name`: its definition as a helper, its calls and its variables.

    `shared` are the variables of the enclosing function that it reads.
    """

    name: str
    definition: FlowDefinition
    calls: tuple[ast.Call, ...]
    shared: frozenset[str]

    @property
    def callee(self) -> str:
        """Its absolute name, as durable calls contain it."""
        assert self.definition.outer is not None
        around = self.definition.outer.function
        return f"{self.definition.source.module}.{around}.<locals>.{self.name}"

    @property
    def outer(self) -> ast.FunctionDef | ast.AsyncFunctionDef:
        """The function around it."""
        assert self.definition.outer is not None
        return self.definition.outer.definition

    def call(self) -> DurableCall | None:
        """Return the durable call that a call of the function makes, None if it makes none."""
        body = self.definition.definition.body
        found = [durable_of(node) for stmt in body for node in walk(stmt)]
        calls = [call for call in found if call]
        if not calls:
            return None
        names = dict.fromkeys(name for call in calls for name in call.records)
        options = [call.needs or (call.options,) for call in calls]
        needs = dict.fromkeys(one for part in options for one in part if one)
        coroutines = any(call.is_async or call.makes_coroutines for call in calls)
        return DurableCall(
            "helper",
            self.name,
            inside=(*names,),
            needs=(*needs,),
            callee=self.callee,
            makes_coroutines=coroutines,
        )


def local_functions(outer: FlowDefinition) -> Iterator[LocalFunction]:
    """Yield the functions and lambdas of a function's body that can be inlined, in order.

    The caller marks the calls of each before it asks for the next, which may call it.
    """
    function = outer.definition
    made = [(stmt, *found) for stmt in function.body if (found := _defined(stmt))]
    if not made:
        return
    variables = _Variables.of(function)
    known: set[str] = set()
    for stmt, name, node in made:
        calls = variables.calls_after(name, (stmt.end_lineno or 0, stmt.end_col_offset or 0))
        if not calls or not _is_simple(node, outer):
            continue
        shared = (captured_names(node) & variables.bound) - known
        first = min((call.lineno, call.col_offset) for call in calls)
        if not all(variables.is_shared(one, first) for one in shared):
            continue
        if _makes_closures(node) and any(variables.changes(one) for one in shared):
            continue
        definition = replace(outer, name=name, variable=name, definition=_as_function(node))
        definition = replace(definition, options=(), owner="", outer=outer)
        yield LocalFunction(name, definition, calls, frozenset(shared))
        if durable_of(calls[0]):
            known.add(name)


class _Variables(Struct):
    """The variables of a function; `before` has the places after which each certainly has a value.

    `definitions` are the names of its local functions and classes.
    """

    bound: set[str]
    parameters: frozenset[str]
    counts: Counter[str]
    lost: frozenset[str]
    before: dict[str, Place]
    definitions: frozenset[str]
    nodes: tuple[ast.AST, ...]

    @staticmethod
    def of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> _Variables:
        nodes = tuple(node for stmt in function.body for node in walk(stmt))
        lost = set().union(*map(deleted_names, function.body))
        lost.update(name for n in nodes if isinstance(n, ast.Nonlocal) for name in n.names)
        before: dict[str, Place] = {}
        for stmt in function.body:
            for name in _surely_bound([stmt]):
                before.setdefault(name, (stmt.end_lineno or 0, stmt.end_col_offset or 0))
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        definitions = {node.name for node in nodes if isinstance(node, kinds)}
        for node in nodes:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
                definitions |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        return _Variables(
            bound_in(function),
            frozenset(argument_names(function.args)),
            Counter(bindings(function)),
            frozenset(lost),
            before,
            frozenset(definitions),
            nodes,
        )

    def calls_after(self, name: str, place: Place) -> tuple[ast.Call, ...]:
        """Return the calls of a function bound once, if it is only called, and after `place`."""
        if self.counts[name] != 1 or name in self.parameters | self.lost:
            return ()
        if any(isinstance(node, ast.arg) and node.arg == name for node in self.nodes):
            return ()
        reads = [n for n in self.nodes if isinstance(n, ast.Name) and n.id == name]
        reads = [n for n in reads if not isinstance(n.ctx, ast.Store)]
        calls = [n for n in self.nodes if isinstance(n, ast.Call) and n.func in reads]
        later = all((n.lineno, n.col_offset) >= place for n in reads)
        # Another flow that calls the same helper may have marked the calls.
        marked = [call for n in calls if (call := durable_of(n)) and not call.is_local]
        only_called = len(calls) == len(reads) and not marked
        return tuple(calls) if later and only_called else ()

    def is_shared(self, name: str, place: Place) -> bool:
        """Return whether a variable has a value at `place`, is never lost, and is no function."""
        if name in self.lost | self.definitions:
            return False
        return name in self.parameters or self.before.get(name, place) < place

    def changes(self, name: str) -> bool:
        return self.counts[name] + (name in self.parameters) != 1


def _defined(stmt: ast.stmt) -> tuple[str, ast.FunctionDef | ast.Lambda] | None:
    match stmt:
        case ast.FunctionDef(name=name, decorator_list=[]):
            return name, stmt
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Lambda() as node):
            return name, node
    return None


def _is_simple(node: ast.FunctionDef | ast.Lambda, outer: FlowDefinition) -> bool:
    """Return whether defining the function has no effect, and it has its own variables only."""
    args = node.args
    if args.vararg or args.kwarg:
        return False
    if not all(is_literal(d) for d in [*args.defaults, *(d for d in args.kw_defaults if d)]):
        return False
    body = [node.body] if isinstance(node, ast.Lambda) else node.body
    inside = [inner for part in body for inner in walk(part)]
    unusual = ast.Nonlocal | ast.Global | ast.Yield | ast.YieldFrom | ast.Await
    if any(isinstance(inner, unusual) for inner in inside):
        return False
    names = {getattr(n, "id", "") or getattr(n, "attr", "") for n in inside}
    if any(n.startswith("__") for n in names) or "super" in names:
        return False
    return all(_has_no_effect(one, outer) for one in _annotations(node))


def _annotations(node: ast.FunctionDef | ast.Lambda) -> Iterator[ast.expr]:
    args = node.args
    for argument in [*args.posonlyargs, *args.args, *args.kwonlyargs]:
        if argument.annotation:
            yield argument.annotation
    if isinstance(node, ast.FunctionDef) and node.returns:
        yield node.returns


def _has_no_effect(annotation: ast.expr, outer: FlowDefinition) -> bool:
    """Return whether leaving out an annotation, evaluated at the definition, changes nothing."""
    if "annotations" in outer.source.futures:
        return True
    known = BUILTINS | constants(outer.source.tree)
    kinds = ast.Constant | ast.Subscript | ast.Tuple | ast.List | ast.BinOp | ast.Attribute
    return all(
        (isinstance(inner, ast.Name) and inner.id in known) or isinstance(inner, kinds)
        for inner in walk(annotation)
    )


def _makes_closures(node: ast.FunctionDef | ast.Lambda) -> bool:
    body = [node.body] if isinstance(node, ast.Lambda) else node.body
    kinds = (*Function.__args__, ast.ClassDef, ast.GeneratorExp)
    return any(isinstance(inner, kinds) for part in body for inner in walk(part))


def _as_function(node: ast.FunctionDef | ast.Lambda) -> ast.FunctionDef:
    """Return a lambda as the function that it is to Python: its value is returned."""
    if isinstance(node, ast.FunctionDef):
        return node
    returned = ast.copy_location(ast.Return(node.body), node.body)
    made = ast.FunctionDef("<lambda>", node.args, [returned], [], None)
    made.type_params = []  # type: ignore[attr-defined]
    return ast.copy_location(made, node)


def _surely_bound(stmts: list[ast.stmt]) -> set[str]:
    """Return the names that statements bind whenever control reaches their end."""
    names: set[str] = set()
    for stmt in stmts:
        match stmt:
            case ast.If(body=body, orelse=orelse):
                arms = [_surely_bound(arm) for arm in (body, orelse) if not _leaves(arm)]
                names |= set.intersection(*arms) if arms else set()
            case ast.With(body=body):
                # A manager may suppress what its body raises.
                names |= set()
            case _:
                names |= certainly_bound(stmt)
    return names


def _leaves(stmts: list[ast.stmt]) -> bool:
    return bool(stmts) and isinstance(stmts[-1], ast.Return | ast.Raise)
