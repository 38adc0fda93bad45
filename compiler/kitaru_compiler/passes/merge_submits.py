"""Merge submits into one fan-out, up to the first statement that reads a future.

Before::

    a = draft.submit(topic)
    b = check.submit(topic)
    return a.result(), b.result()

After::

    # fan-out
    a = draft.submit(topic)
    b = check.submit(topic)
    return (a.result(), b.result())
"""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass, field, replace

from kitaru_compiler.ir.build import assign, load, rewrite
from kitaru_compiler.ir.nodes import Code, Durable, Fan, FlowIR, Node, Return
from kitaru_compiler.passes.submits import is_only_submitting, looked_at, stored_into


def merge_submits(ir: FlowIR) -> FlowIR:
    """Merge adjacent submits and the statements between them into one fan."""
    return replace(ir, body=rewrite(ir.body, lambda nodes: _joined(ir, nodes)))


@dataclass
class _Open:
    """The fan that may still grow, and the statements after it."""

    fan: Fan
    futures: set[str] = field(default_factory=set)
    after: list[Code] = field(default_factory=list)

    def takes(self, stmts: list[ast.stmt]) -> bool:
        return not any(looked_at(stmt, self.futures) for stmt in stmts)

    def learn(self, stmts: list[ast.stmt]) -> None:
        for stmt in stmts:
            self.futures |= stored_into(stmt, self.futures)

    def grow(self, fan: Fan) -> None:
        self.fan.stmts += [*(node.stmt for node in self.after), *fan.stmts]
        self.fan.calls += fan.calls
        self.after = []
        self.learn(fan.stmts)


def _joined(ir: FlowIR, nodes: list[Node]) -> list[Node]:
    result: list[Node] = []
    current: _Open | None = None
    for node in (part for one in nodes for part in _as_fans(ir, one)):
        if isinstance(node, Fan):
            if current and current.takes(node.stmts):
                current.grow(node)
                continue
            result += _closed(current)
            current = _Open(Fan([*node.stmts], [*node.calls]))
            current.learn(node.stmts)
        elif current and isinstance(node, Code) and _may_stand_between(node, current):
            current.after.append(node)
            current.learn([node.stmt])
        else:
            result += [*_closed(current), node]
            current = None
    return [*result, *_closed(current)]


def _closed(current: _Open | None) -> list[Node]:
    return [current.fan, *current.after] if current else []


def _may_stand_between(node: Code, current: _Open) -> bool:
    leaves = any(isinstance(n, ast.Return | ast.Raise) for n in ast.walk(node.stmt))
    return not leaves and current.takes([node.stmt])


def _as_fans(ir: FlowIR, node: Node) -> list[Node]:
    """Split a submitting node into a fan and the operations after its submits."""
    if isinstance(node, Durable) and node.call.kind == "submit":
        node = Fan([node.stmt], [node.call])
    if not isinstance(node, Fan) or len(node.stmts) > 1:
        return [node]
    (stmt,) = node.stmts
    value = getattr(stmt, "value", None)
    if value is None or is_only_submitting(stmt, ir.locals.union(ir.temporaries)):
        return [node]
    name = ir.temporary("submitted")
    rest = copy.copy(stmt)
    rest.value = load(value, name)  # type: ignore[attr-defined]
    after = Return(rest) if isinstance(rest, ast.Return) else Code(rest)
    return [Fan([assign(stmt, name, value)], node.calls), after]
