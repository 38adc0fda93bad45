"""Find helpers that can be inlined at their calls, and explain the others."""

from __future__ import annotations

import ast

from kitaru.wire.structs import Struct
from kitaru_compiler.frontend.flows import FlowDefinition
from kitaru_compiler.frontend.names import Symbol
from kitaru_compiler.ir.scope import own_nodes

Why = tuple[str, str]


class Helper(Struct):
    """A function of the project that makes durable calls; `kind` is the kind of its symbol.

    `recursive` means that it may call itself, directly or through other functions.
    """

    definition: FlowDefinition
    kind: str
    recursive: bool

    @staticmethod
    def of(symbol: Symbol, recursive: bool, owner: Symbol | None = None) -> Helper:
        """Return the helper for a function or flow, or for a method of class `owner`."""
        assert symbol.source is not None
        assert isinstance(symbol.definition, ast.FunctionDef | ast.AsyncFunctionDef)
        name = symbol.definition.name
        class_name = owner.name.rpartition(".")[2] if owner else ""
        definition = FlowDefinition(name, name, symbol.source, symbol.definition, owner=class_name)
        return Helper(definition, symbol.kind, recursive)

    def why_not(self, flow: ast.FunctionDef | ast.AsyncFunctionDef) -> Why | None:
        """Return why it must stay a call of `flow`, and the remedy; None if it can be inlined."""
        function, name = self.definition.definition, f"`{self.definition.name}`"
        if self.recursive:
            return f"{name} calls itself", "loop in the flow instead"
        if isinstance(function, ast.AsyncFunctionDef) and isinstance(flow, ast.FunctionDef):
            return f"{name} is async", "write `def`, and call checkpoints in it"
        if function.decorator_list and self.kind != "flow":
            return f"{name} is decorated: what runs is known only at run time", _PLAIN
        if self.definition.owner and any(map(_needs_its_class, ast.walk(function))):
            return f"{name} uses `super()` or a private name", "write that part as a function"
        is_method_or_local = self.definition.owner or self.definition.outer
        if not is_method_or_local and function not in self.definition.source.tree.body:
            return f"{name} is defined under a condition", "define it once, at the top level"
        if function.args.vararg or function.args.kwarg:
            return f"{name} takes any number of arguments", "name each parameter"
        if any(_yields(node) for stmt in function.body for node in own_nodes(stmt)):
            return f"{name} is a generator: its calls run while it is read", "return a list"
        return None


_PLAIN = "call an undecorated function, or the checkpoints themselves"


def _needs_its_class(node: ast.AST) -> bool:
    """Return whether code changes its meaning outside of its class: a cell or a mangled name."""
    name = getattr(node, "id", "") or getattr(node, "attr", "")
    private = name.startswith("__") and not name.endswith("__")
    return private or name in ("super", "__class__")


def _yields(node: ast.AST) -> bool:
    return isinstance(node, ast.Yield | ast.YieldFrom)
