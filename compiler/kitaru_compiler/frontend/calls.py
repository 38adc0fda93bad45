"""Decides which calls in a flow's body record something: marks each one on its node."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules import kit403
from kitaru_compiler.frontend.dynamic import DynamicCalls
from kitaru_compiler.frontend.flows import FlowDefinition, checkpoint_options
from kitaru_compiler.frontend.names import Names, Symbol
from kitaru_compiler.frontend.source import Source
from kitaru_compiler.ir.nodes import CallKind, DurableCall, mark_durable
from kitaru_compiler.ir.scope import argument_names, bound_names

SUBMITS = frozenset({"submit", "map", "product"})
MEMORY = ("get", "entry", "set", "delete", "list", "history", "compact")
PRIMITIVES: dict[str, CallKind] = {
    "llm": "llm",
    "wait": "wait",
    "log": "log",
    **{f"memory.{operation}": "memory" for operation in MEMORY},
}


@dataclass
class Calls:
    """Marks the durable calls of functions; helpers are followed through the project, once each."""

    names: Names
    _helpers: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def mark(self, flow: FlowDefinition) -> list[Diagnostic]:
        """Mark every durable call in the flow's body; return the flows among them."""
        found: list[Diagnostic] = []
        for node, symbol, method in self.resolved(flow.source, flow.definition):
            call = self._durable(symbol, method, flow.options)
            if call:
                mark_durable(node, call)
            if symbol.kind == "flow":
                message = f"flow `{symbol.name.rpartition('.')[2]}` is called in a flow"
                fix = "call its checkpoints here, or start it on its own with `.run()`"
                found.append(Diagnostic(kit403.RULE, flow.source.span(node), message, help=fix))
        self._dynamic(flow.source, flow.definition.name).mark(flow.definition.body)
        return found

    def _dynamic(self, source: Source, function: str) -> DynamicCalls:
        return DynamicCalls(lambda name: self._held(source, name, function))

    def _held(self, source: Source, name: str, function: str) -> tuple[str, ...]:
        """Return the checkpoints that a name of the module is, or is a display of."""
        symbol = self.names.lookup(source, name, function)
        if symbol and symbol.kind == "checkpoint":
            return (checkpoint_options(symbol).name,)
        display = self.names.display(source, name, function)
        if display is None:
            return ()
        held = []
        for node in ast.walk(display):
            inner = self.names.lookup(source, node.id) if isinstance(node, ast.Name) else None
            if inner and inner.kind == "checkpoint":
                held.append(checkpoint_options(inner).name)
        return tuple(dict.fromkeys(held))

    def _durable(
        self, symbol: Symbol, method: str, inherited: tuple[ast.keyword, ...] = ()
    ) -> DurableCall | None:
        if symbol.kind == "primitive" and symbol.name in PRIMITIVES and not method:
            return DurableCall(PRIMITIVES[symbol.name], symbol.name)
        if symbol.kind == "checkpoint":
            kind: CallKind = "submit" if method else "checkpoint"
            options = checkpoint_options(symbol, inherited)
            return DurableCall(kind, options.name, options)
        if symbol.kind == "function" and not method and (inside := self._inside(symbol)):
            return DurableCall("helper", symbol.name.rpartition(".")[2], inside=inside)
        return None

    def _inside(self, symbol: Symbol) -> tuple[str, ...]:
        """Return the durable calls that a project function makes, transitively."""
        if symbol.name not in self._helpers:
            self._helpers[symbol.name] = ()  # recursion adds nothing new
            found: list[str] = []
            assert symbol.source is not None and symbol.definition is not None
            for _, inner, method in self.resolved(symbol.source, symbol.definition):
                call = self._durable(inner, method)
                if call and call.kind == "helper" and inner.kind == "function":
                    found += self._inside(inner)
                elif call:
                    found.append(call.name)
            self._helpers[symbol.name] = tuple(dict.fromkeys(found))
        return self._helpers[symbol.name]

    def resolved(self, source: Source, function: ast.AST) -> list[tuple[ast.Call, Symbol, str]]:
        """Return the calls whose callee is known: node, symbol, and `submit` or the like."""
        name = getattr(function, "name", "")
        top = name if function in source.tree.body else ""
        found = []
        for node, hidden in _calls(function):
            target, method = node.func, ""
            if isinstance(target, ast.Attribute) and target.attr in SUBMITS:
                symbol = self.names.resolve(source, target.value, top)
                if symbol and symbol.kind == "checkpoint":
                    method, target = target.attr, target.value
            root = target
            while isinstance(root, ast.Attribute):
                root = root.value
            if not isinstance(root, ast.Name) or root.id in hidden:
                continue
            symbol = self.names.resolve(source, target, top)
            if symbol:
                found.append((node, symbol, method))
        return found


def _calls(function: ast.AST) -> list[tuple[ast.Call, frozenset[str]]]:
    """Return the calls in a function's body with the names that nested scopes hide there."""
    found: list[tuple[ast.Call, frozenset[str]]] = []

    def visit(node: ast.AST, hidden: frozenset[str]) -> None:
        match node:
            case ast.Call():
                found.append((node, hidden))
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                targets = (n for g in node.generators for n in ast.walk(g.target))
                hidden |= {n.id for n in targets if isinstance(n, ast.Name)}
            case ast.Lambda():
                hidden |= set(argument_names(node.args))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                inner = set(argument_names(node.args))
                for stmt in node.body:
                    inner |= bound_names(stmt)
                hidden |= inner
        for child in ast.iter_child_nodes(node):
            visit(child, hidden)

    for stmt in getattr(function, "body", []):
        visit(stmt, frozenset())
    return found
