"""Turn `x = a() if c else b()` into an `if` statement with the same meaning.

Before::

    text = draft(topic) if topic else research(topic)
    return text

After::

    if topic:  # branch
        text = draft(topic)
    else:
        text = research(topic)
    return text
"""

from __future__ import annotations

import ast
import copy
from dataclasses import replace

from kitaru_compiler.ir.build import at, rewrite
from kitaru_compiler.ir.nodes import Code, FlowIR, If, Node, durable_calls
from kitaru_compiler.passes.branches import structure


def ternaries(ir: FlowIR) -> FlowIR:
    """Move a statement into the arms of the conditional expression that is its whole value."""
    return replace(ir, body=rewrite(ir.body, lambda nodes: _sink(ir, nodes)))


def _sink(ir: FlowIR, nodes: list[Node]) -> list[Node]:
    result: list[Node] = []
    for node in nodes:
        if not isinstance(node, Code):
            result.append(node)
            continue
        stmt = node.stmt
        value = getattr(stmt, "value", None)
        whole = isinstance(stmt, ast.Assign | ast.AnnAssign | ast.Expr | ast.Return)
        if whole and isinstance(value, ast.IfExp) and durable_calls(value.body, value.orelse):
            arms = [
                _sink(ir, structure(ir, [_with_value(stmt, arm)]))
                for arm in (value.body, value.orelse)
            ]
            result.append(If(value.test, arms[0], arms[1], stmt))
        else:
            result.append(node)
    return result


def _with_value(stmt: ast.stmt, value: ast.expr) -> ast.stmt:
    changed = copy.copy(stmt)
    changed.value = value  # type: ignore[attr-defined]
    if isinstance(changed, ast.Assign):
        changed.targets = copy.deepcopy(changed.targets)
    return at(stmt, changed)
