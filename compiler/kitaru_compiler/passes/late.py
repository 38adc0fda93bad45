"""Decides which operands may be read after a durable call: those that then give the same."""

from __future__ import annotations

import ast
import builtins

from kitaru_compiler.ir.nodes import FlowIR
from kitaru_compiler.ir.scope import bound_names

BUILTINS = frozenset(dir(builtins))


    def _is_stable(self, node: ast.expr, later: list[ast.expr]) -> bool:
        match node:
            case ast.Constant():
                return True
            case ast.Name(id=name):
                if name in self.ir.temporaries:
                    return True
                if name not in self.ir.locals:
                    # One that nothing defines must raise where it stands, not later.
                    return name in self.ir.globals or name in BUILTINS
                rebound = any(name in bound_names(other) for other in later)
                return name in self.bound and not rebound
            case ast.Attribute(value=ast.Name(id=name), attr=method):
                if hasattr(self.ir.containers.get(name), method):
                    return self._is_stable(node.value, later)
                return self._is_module(node.value)
            case ast.Attribute(value=value):
                return self._is_module(value)
            case ast.Tuple(elts=elts):
                return all(isinstance(item, ast.Constant) for item in elts)
        return False

    def _is_module(self, node: ast.expr) -> bool:
        while isinstance(node, ast.Attribute):
            node = node.value
        return isinstance(node, ast.Name) and node.id in self.ir.modules

