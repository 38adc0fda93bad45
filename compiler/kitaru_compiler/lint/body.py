"""The view of a function for lint rules: the nodes of its own scope, and its names."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from kitaru.wire.plan import Span
from kitaru_compiler.diagnostics.model import Diagnostic, Rule
from kitaru_compiler.frontend.names import Names, Symbol, dotted_name
from kitaru_compiler.frontend.source import Source
from kitaru_compiler.ir.scope import Comprehension, argument_names, bound_names, own_nodes


@dataclass
class Bodies:
    """Every function that advisers inspect, created once; `known` caches facts about helpers."""

    names: Names
    known: dict[Any, dict[ast.AST, Any]] = field(default_factory=dict)
    _made: dict[ast.AST, Body] = field(default_factory=dict)

    def of(
        self,
        source: Source,
        definition: ast.FunctionDef | ast.AsyncFunctionDef,
        options: tuple[ast.keyword, ...] = (),
    ) -> Body:
        """Return the cached body of a function of `source`."""
        if definition not in self._made:
            self._made[definition] = Body(source, definition, self, options)
        return self._made[definition]


@dataclass(frozen=True)
class Body:
    """A flow, a checkpoint or a helper; `options` are the arguments of a checkpoint's decorator."""

    source: Source
    definition: ast.FunctionDef | ast.AsyncFunctionDef
    bodies: Bodies
    options: tuple[ast.keyword, ...] = ()

    @property
    def names(self) -> Names:
        return self.bodies.names

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """The nodes evaluated in the function's own scope; nested functions run when called."""
        return tuple(node for stmt in self.definition.body for node in own_nodes(stmt))

    @cached_property
    def locals(self) -> frozenset[str]:
        """The names that the function itself binds, except `global` names."""
        bound = set(argument_names(self.definition.args))
        bound = bound.union(*map(bound_names, self.definition.body))
        return frozenset(bound - self.globals)

    @cached_property
    def globals(self) -> frozenset[str]:
        """The names that the function declares `global`."""
        declared = (node.names for node in self.nodes if isinstance(node, ast.Global))
        return frozenset(name for names in declared for name in names)

    @cached_property
    def _hidden(self) -> frozenset[str]:
        targets = (
            generator.target
            for node in self.nodes
            if isinstance(node, Comprehension)
            for generator in node.generators
        )
        found = (node for target in targets for node in ast.walk(target))
        return frozenset(node.id for node in found if isinstance(node, ast.Name))

    def hides(self, name: str) -> bool:
        """Return whether `name` is bound by the function, or by a comprehension in it."""
        return name in self._hidden or name in self.locals

    def symbol(self, expression: ast.expr) -> Symbol | None:
        """Resolve a name or a chain of attributes; None for names that the function binds."""
        dotted = dotted_name(expression)
        root = dotted.partition(".")[0]
        if not dotted or (self.hides(root) and root not in self._imported):
            return None
        return self.names.lookup(self.source, dotted, self._scope)

    @cached_property
    def helpers(self) -> tuple[tuple[ast.Call, Body], ...]:
        """The calls of plain project functions, each with the function that it runs."""
        calls = (node for node in self.nodes if isinstance(node, ast.Call))
        found = ((call, self._helper(call)) for call in calls)
        return tuple((call, helper) for call, helper in found if helper)

    def _helper(self, call: ast.Call) -> Body | None:
        symbol = self.symbol(call.func)
        if symbol is None or symbol.kind != "function" or symbol.source is None:
            return None
        definition = symbol.definition
        # A decorator may replace the function, and calling a generator runs none of its code.
        if not isinstance(definition, ast.FunctionDef) or definition.decorator_list:
            return None
        body = self.bodies.of(symbol.source, definition)
        lazy = any(isinstance(node, ast.Yield | ast.YieldFrom) for node in body.nodes)
        return None if lazy else body

    @cached_property
    def _imported(self) -> frozenset[str]:
        imports = (n for n in self.nodes if isinstance(n, ast.Import | ast.ImportFrom))
        return frozenset().union(*map(bound_names, imports))

    def outside(self, expression: ast.expr) -> str:
        """Return the absolute name of an object from outside the project, such as `time.time`."""
        symbol = self.symbol(expression)
        return symbol.name if symbol and symbol.kind == "module" and not symbol.source else ""

    def is_builtin(self, expression: ast.expr, *wanted: str) -> bool:
        """Return whether `expression` is one of the builtins `wanted` and not shadowed."""
        if not isinstance(expression, ast.Name) or expression.id not in wanted:
            return False
        if self.hides(expression.id):
            return False
        return self.names.is_builtin(self.source, expression.id, self._scope)

    @cached_property
    def _scope(self) -> str:
        return self.definition.name if self.definition in self.source.tree.body else ""

    def find(
        self,
        rule: Rule,
        node: ast.AST,
        message: str,
        label: str = "",
        help: str = "",
        related: tuple[tuple[Span, str], ...] = (),
        replacement: str = "",
    ) -> Diagnostic:
        """Create a finding at `node`."""
        span = self.source.span(node)
        return Diagnostic(rule, span, message, label, help, related, replacement=replacement)
