"""Find the durable calls in a flow's body, and mark each on its node."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeGuard

from kitaru_compiler.frontend.agents import Agents
from kitaru_compiler.frontend.child_calls import results_of_children
from kitaru_compiler.frontend.choices import Choosing
from kitaru_compiler.frontend.dynamic import DynamicCalls
from kitaru_compiler.frontend.flows import FlowDefinition, checkpoint_options
from kitaru_compiler.frontend.helpers import Helper
from kitaru_compiler.frontend.local_functions import LocalFunction, local_functions
from kitaru_compiler.frontend.lower import constants, literals
from kitaru_compiler.frontend.methods import Methods
from kitaru_compiler.frontend.names import Names, Symbol, dotted_name
from kitaru_compiler.frontend.source import Source
from kitaru_compiler.frontend.tables import Tables
from kitaru_compiler.ir.nodes import CallKind, DurableCall, mark_durable, reaching, unmark_durable
from kitaru_compiler.ir.scope import argument_names, bound_in, bound_names
from kitaru_compiler.ir.walk import children, walk

Function = ast.FunctionDef | ast.AsyncFunctionDef
SUBMITS = frozenset({"submit", "map", "product"})
MEMORY = ("configure", "get", "entry", "set", "delete", "list", "history", "compact")
_BLOCKING: dict[str, CallKind] = {
    "llm": "llm",
    "wait": "wait",
    "sleep": "sleep",
    "wait_event": "event",
    "invoke": "child",
    "inbox": "inbox",
    **{f"memory.{operation}": "memory" for operation in MEMORY},
}
AIO = "aio."
PRIMITIVES: dict[str, CallKind] = {
    "log": "log",
    # Recorded like a memory that is read: cheap, and at its place in the order of the calls.
    "now": "memory",
    "tag": "log",
    **_BLOCKING,
    **{f"{AIO}{name}": kind for name, kind in _BLOCKING.items()},
}
# Returns the callees of a function; which calls count depends on the caller.
CallsOf = Callable[[Symbol], list[Symbol | DurableCall]]


@dataclass
class Calls:
    """Marks the durable calls of functions; follows each helper of the project once."""

    names: Names
    # The flow's module, whose imports form the project's code.
    module: str
    # Number of retries of checkpoints if neither they nor their flow set it.
    retries: int = 0
    helpers: dict[str, Helper] = field(default_factory=dict)
    # The local functions that are inlined, by their absolute names.
    local: dict[str, LocalFunction] = field(default_factory=dict)
    # The compiler error that ended `mark`, after which the flow's calls are unknown.
    fault: Exception | None = None
    _resolved: dict[ast.AST, list[tuple[ast.Call, Symbol, str]]] = field(default_factory=dict)
    _inside_of: dict[str, tuple[DurableCall, ...]] = field(default_factory=dict)
    _direct_of: dict[str, list[Symbol | DurableCall]] = field(default_factory=dict)
    _data_of: dict[str, bool] = field(default_factory=dict)
    _possible_of: dict[str, list[Symbol | DurableCall]] = field(default_factory=dict)
    _constants: dict[str, frozenset[str]] = field(default_factory=dict)
    _literals: dict[str, dict[str, ast.expr]] = field(default_factory=dict)
    # The class of each method, by the method's absolute name.
    _owners: dict[str, Symbol] = field(default_factory=dict)

    def mark(self, flow: FlowDefinition) -> None:
        """Mark every durable call in the flow's body, and in the helpers that it calls."""
        configured = ast.keyword("retries", ast.Constant(self.retries))
        self._mark(flow, (configured, *flow.options))

    def _mark(self, flow: FlowDefinition, inherited: tuple[ast.keyword, ...]) -> None:
        own = bound_in(flow.definition)
        is_async = isinstance(flow.definition, ast.AsyncFunctionDef)
        owner = self._owners.get(f"{flow.source.module}.{flow.function}")
        called = [*self._called(flow.source, flow.definition, owner)]
        results = dict(results_of_children(flow.definition, called))
        for node in results:
            mark_durable(node, DurableCall("child", "result"))
        for node, symbol, method in called:
            call = self._durable(symbol, method, inherited)
            if call and call.kind == "helper":
                if symbol.name in self._owners:
                    call = replace(call, callee=symbol.name)
                elif self._is_certain(flow.source, node.func, own, symbol.name):
                    doubt = self._doubt(node.func, symbol.name)
                    call = replace(call, callee="" if doubt else symbol.name, doubt=doubt)
            if call:
                mark_durable(node, call)
            if call and call.callee and symbol.name not in self.helpers:
                _, *reached = self._reached(symbol, self._certain_callees)
                recursive = any(f.name == symbol.name for f in reached)
                helper = Helper.of(symbol, recursive, self._owners.get(symbol.name))
                self.helpers[symbol.name] = helper
                self._mark(helper.definition, inherited)
        agents = dict(self.agents.marked(flow.source, flow.definition))
        for node, call in agents.items():
            mark_durable(node, call)
        for node, symbols in self._dynamic(flow.source, flow.definition, flow.scope, owner):
            calls = [call for symbol in symbols for call in self._calls_of(symbol)]
            if results.get(node):
                # The value is recorded data, which calls nothing.
                continue
            if node in results:
                mark_durable(node, DurableCall("child", "result").calling(calls))
            elif calls and node in agents:
                mark_durable(node, agents[node].calling(calls))
            elif calls:
                call = reaching("dynamic", _shown(node.func), calls)
                names = self.choosing.choices(flow, node)
                chosen = [(name, self._durable(symbol, "", inherited)) for name, symbol in names]
                choices = tuple((name, one) for name, one in chosen if one)
                mark_durable(node, replace(call, choices=choices))
        for function in local_functions(flow):
            call = function.call()
            if call and is_async and call.makes_coroutines:
                # It must return the coroutines that it makes.
                call = None
            if call:
                self.local[function.callee] = function
                self.helpers[function.callee] = Helper(function.definition, "function", False)
                for node in function.calls:
                    mark_durable(node, call)

    def local_to(self, definition: FlowDefinition) -> tuple[frozenset[str], frozenset[str]]:
        """Return the inlined functions that a function defines, and the variables that it shares.

        Only a local function shares variables, those of the function around it.
        """
        outer = definition.definition
        names = {f.name for f in self.local.values() if f.outer is outer}
        shared = {s for f in self.local.values() if f.definition is definition for s in f.shared}
        return frozenset(names), frozenset(shared)

    def keep(self, callee: str) -> None:
        """Leave a local function, and the local functions that call it, where they are."""
        kept = self.local.pop(callee)
        for node in kept.calls:
            unmark_durable(node)
        for other in [*self.local.values()]:
            inside = {node for stmt in other.definition.definition.body for node in walk(stmt)}
            if other.callee in self.local and not inside.isdisjoint(kept.calls):
                self.keep(other.callee)

    @cached_property
    def methods(self) -> Methods:
        return Methods(self.names, self.module)

    @cached_property
    def agents(self) -> Agents:
        return Agents(self.names, self.module)

    @cached_property
    def choosing(self) -> Choosing:
        return Choosing(self.names, self.methods, self.tables)

    @cached_property
    def tables(self) -> Tables:
        return Tables(self.names, self.methods.sources)

    def _is_certain(self, source: Source, callee: ast.expr, own: set[str], name: str) -> bool:
        """Return whether the callee is always `name`, called by a name of the module."""
        root = dotted_name(callee).partition(".")[0]
        if source.module not in self._constants:
            self._constants[source.module] = constants(source.tree)
        bound_once = root not in own and root in self._constants[source.module]
        return bound_once and name not in self.methods.replaced

    def _doubt(self, callee: ast.expr, name: str) -> str:
        """Return where one of the names in the call of a function may be replaced."""
        parts = [*dotted_name(callee).split("."), name.rpartition(".")[2]]
        return next(filter(None, map(self.methods.replacing.name, parts)), "")

    def literals(self, source: Source) -> dict[str, ast.expr]:
        """Return the values of the module's constants that are never replaced, by name."""
        if source.module not in self._literals:
            self._literals[source.module] = {
                name: value
                for name, value in literals(source.tree).items()
                if f"{source.module}.{name}" not in self.methods.replaced
                and not self.methods.replacing.name(name)
            }
        return self._literals[source.module]

    def _dynamic(
        self, source: Source, definition: Function, scope: str, owner: Symbol | None
    ) -> Iterator[tuple[ast.Call, list[Symbol]]]:
        """Yield the calls in a function that may reach callables through a value."""
        known = {node for node, _, _ in self._called(source, definition, owner)}
        known.update(node for node, _ in self.agents.marked(source, definition))

        def is_module(name: str) -> bool:
            symbol = self.names.lookup(source, name, scope)
            return symbol is not None and symbol.kind in ("module", "primitive")

        dynamic = DynamicCalls(
            lambda name: self._held(source, name, scope),
            lambda name: self.tables.is_object(self.names.variable(source, name, scope)),
            self.methods.named,
            is_module,
            lambda name: self.choosing.table(source, name, scope) is not None,
            self._gives_data,
        )
        yield from dynamic.find(definition, known)

    def _gives_data(self, symbol: Symbol) -> bool:
        """Return whether the result of calling `symbol` cannot itself be called.

        The result of a checkpoint is recorded data. A function may create functions, or return a
        function that it mentions.
        """
        if symbol.kind == "checkpoint":
            return True
        if symbol.name not in self._data_of:
            self._data_of[symbol.name] = self._returns_data(symbol)
        return self._data_of[symbol.name]

    def _returns_data(self, symbol: Symbol) -> bool:
        source, definition = symbol.source, symbol.definition
        assert source is not None and isinstance(definition, Function)
        scope = definition.name if definition in source.tree.body else ""
        nodes = [node for stmt in definition.body for node in walk(stmt)]
        called = {node.func for node in nodes if isinstance(node, ast.Call)}
        return not any(
            isinstance(node, ast.Lambda | Function | ast.ClassDef)
            or (
                isinstance(node, ast.Name | ast.Attribute)
                and node not in called
                and (name := dotted_name(node))
                and self._held(source, name, scope)
            )
            for node in nodes
        )

    def _held(self, source: Source, name: str, scope: str) -> list[Symbol]:
        """Return the checkpoints and functions that a module's name may be or contain."""
        symbol = self.names.lookup(source, name, scope)
        held = self.tables.held(self.names.variable(source, name, scope))
        return [found for found in ([symbol] if symbol else held) if _is_callable(found)]

    def _calls_of(self, symbol: Symbol) -> tuple[DurableCall, ...]:
        """Return the durable calls made when the object of `symbol` is called."""
        if symbol.kind == "checkpoint":
            options = checkpoint_options(symbol)
            is_async = _is_async(symbol)
            return (DurableCall("checkpoint", options.name, options, is_async=is_async),)
        return self._transitive_calls(symbol) if _is_function(symbol) else ()

    def _durable(
        self, symbol: Symbol, method: str, inherited: tuple[ast.keyword, ...] = ()
    ) -> DurableCall | None:
        if symbol.kind == "primitive" and symbol.name in PRIMITIVES and not method:
            name = symbol.name.removeprefix(AIO)
            return DurableCall(PRIMITIVES[symbol.name], name, is_async=name != symbol.name)
        if symbol.kind == "checkpoint":
            kind: CallKind = "submit" if method else "checkpoint"
            options = checkpoint_options(symbol, inherited)
            # The future of a submitted call is no coroutine.
            is_async = _is_async(symbol) and not method
            return DurableCall(kind, options.name, options, is_async=is_async)
        if _is_function(symbol) and not method and (inside := self._transitive_calls(symbol)):
            call = reaching("helper", symbol.name.rpartition(".")[2], inside)
            return replace(call, is_async=_is_async(symbol))
        return None

    def _transitive_calls(self, symbol: Symbol) -> tuple[DurableCall, ...]:
        """Return the durable calls that a project function may make, transitively."""
        if symbol.name not in self._inside_of:
            found: dict[DurableCall, None] = {}
            for reached in self._reached(symbol, self._possible_callees):
                calls = (c for c in self._possible_callees(reached) if isinstance(c, DurableCall))
                found.update(dict.fromkeys(calls))
            self._inside_of[symbol.name] = tuple(found)
        return self._inside_of[symbol.name]

    def _reached(self, symbol: Symbol, calls_of: CallsOf) -> Iterator[Symbol]:
        """Yield a function and its transitive callees, each once, or twice in a recursion."""
        seen: set[str] = set()
        pending = [symbol]
        while pending:
            function = pending.pop()
            yield function
            for called in filter(_is_function, calls_of(function)):
                if called.name not in seen:
                    seen.add(called.name)
                    pending.append(called)

    def _certain_callees(self, symbol: Symbol) -> list[Symbol | DurableCall]:
        """Return the certain callees of a function: durable calls, and functions of the project."""
        if symbol.name not in self._direct_of:
            assert symbol.source is not None and symbol.definition is not None
            found: list[Symbol | DurableCall] = []
            owner = self._owners.get(symbol.name)
            for _, inner, method in self._called(symbol.source, symbol.definition, owner):
                if _is_function(inner) and not method:
                    found.append(inner)
                elif call := self._durable(inner, method):
                    found.append(call)
            assert isinstance(symbol.definition, Function)
            found += [call for _, call in self.agents.marked(symbol.source, symbol.definition)]
            self._direct_of[symbol.name] = found
        return self._direct_of[symbol.name]

    def _possible_callees(self, symbol: Symbol) -> list[Symbol | DurableCall]:
        """Return the callees of a function, whether certain or reached through a value."""
        if symbol.name not in self._possible_of:
            source, definition = symbol.source, symbol.definition
            assert source is not None and isinstance(definition, Function)
            scope = definition.name if definition in source.tree.body else ""
            found = [*self._certain_callees(symbol), *self._decorating(symbol)]
            owner = self._owners.get(symbol.name)
            for _, reached in self._dynamic(source, definition, scope, owner):
                for inner in reached:
                    found += [inner] if _is_function(inner) else self._calls_of(inner)
            self._possible_of[symbol.name] = found
        return self._possible_of[symbol.name]

    def _decorating(self, symbol: Symbol) -> Iterator[Symbol | DurableCall]:
        """Yield what decorators may call, including the function itself below `checkpoint`."""
        assert symbol.source is not None and isinstance(symbol.definition, Function)
        for decorator in symbol.definition.decorator_list:
            keywords: tuple[ast.keyword, ...] = ()
            if isinstance(decorator, ast.Call):
                keywords, decorator = tuple(decorator.keywords), decorator.func
            found = self.names.resolve(symbol.source, decorator)
            if found and (found.kind, found.name) == ("primitive", "checkpoint"):
                options = checkpoint_options(replace(symbol, options=keywords))
                yield DurableCall("checkpoint", options.name, options)
            elif found and _is_function(found):
                yield found

    def _called(
        self, source: Source, function: ast.AST, owner: Symbol | None
    ) -> Iterator[tuple[ast.Call, Symbol, str]]:
        """Yield the results of `resolved`, and the methods that a function certainly calls."""
        yield from self.resolved(source, function)
        assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        receivers = self.methods.receivers(source, function, owner)
        if not receivers:
            return
        for node, hidden in _calls(function):
            callee: ast.expr = node.func
            submit = ""
            if isinstance(callee, ast.Attribute) and callee.attr in SUBMITS:
                submit, callee = callee.attr, callee.value
            match callee:
                case ast.Attribute(value=ast.Name(id=name), attr=attribute) if (
                    name in receivers and name not in hidden and node.lineno > receivers[name][1]
                ):
                    method = self.methods.method(receivers[name][0], attribute)
                    if method and (not submit or method.kind == "checkpoint"):
                        self._owners[method.name] = receivers[name][0]
                        yield node, method, submit

    def resolved(self, source: Source, function: ast.AST) -> list[tuple[ast.Call, Symbol, str]]:
        """Return the calls with a known callee: node, symbol, and the method, such as `submit`."""
        if function not in self._resolved:
            self._resolved[function] = [*self._resolve(source, function)]
        return self._resolved[function]

    def _resolve(self, source: Source, function: ast.AST) -> Iterator[tuple[ast.Call, Symbol, str]]:
        name = getattr(function, "name", "")
        top = name if function in source.tree.body else ""
        method_own = bound_in(function) if _is_method(function, top) else set()
        for node, hidden in _calls(function):
            target, method = node.func, ""
            if isinstance(target, ast.Attribute) and target.attr in SUBMITS:
                symbol = self.names.resolve(source, target.value, top)
                if symbol and symbol.kind == "checkpoint":
                    method, target = target.attr, target.value
            root = target
            while isinstance(root, ast.Attribute):
                root = root.value
            if not isinstance(root, ast.Name) or root.id in hidden | method_own:
                continue
            symbol = self.names.resolve(source, target, top)
            if symbol:
                yield node, symbol, method


def _is_method(function: ast.AST, top: str) -> TypeGuard[ast.FunctionDef]:
    return not top and isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)


def _is_function(called: Symbol | DurableCall) -> TypeGuard[Symbol]:
    return isinstance(called, Symbol) and called.kind in ("function", "flow")


def _is_async(symbol: Symbol) -> bool:
    return isinstance(symbol.definition, ast.AsyncFunctionDef)


def _is_callable(symbol: Symbol) -> bool:
    return symbol.kind == "checkpoint" or _is_function(symbol)


def _shown(callee: ast.expr) -> str:
    return ast.unparse(callee).split("\n")[0]


def _calls(function: ast.AST) -> list[tuple[ast.Call, frozenset[str]]]:
    """Return the calls in a function's body with the names that nested scopes hide there."""
    found: list[tuple[ast.Call, frozenset[str]]] = []

    def visit(node: ast.AST, hidden: frozenset[str]) -> None:
        match node:
            case ast.Call():
                found.append((node, hidden))
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                targets = (n for g in node.generators for n in walk(g.target))
                hidden |= {n.id for n in targets if isinstance(n, ast.Name)}
            case ast.Lambda():
                hidden |= set(argument_names(node.args))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                inner = set(argument_names(node.args))
                for stmt in node.body:
                    inner |= bound_names(stmt)
                hidden |= inner
        for child in children(node):
            visit(child, hidden)

    for stmt in getattr(function, "body", []):
        visit(stmt, frozenset())
    return found
