"""Move nested durable calls into temporaries, in Python's order of evaluation.

Operands that Python evaluates before a durable call are evaluated before it here, too. Their values
are stored in temporaries, unless a later read would produce the same value.

Before::

    return publish(shorten(topic) + draft(topic))

After::

    kept_1 = shorten(topic)
    draft_1 = draft(topic)  # step
    return publish(kept_1 + draft_1)  # step
"""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass, replace

from kitaru_compiler.ir.build import at, load
from kitaru_compiler.ir.nodes import (
    Code,
    Durable,
    Exit,
    Fan,
    FlowIR,
    If,
    Node,
    Region,
    Return,
    Scope,
    durable_calls,
    durable_of,
)
from kitaru_compiler.ir.scope import bound_names, certainly_bound, deleted_names
from kitaru_compiler.passes.expressions import Expressions, comprehension_unit


def hoist(ir: FlowIR) -> FlowIR:
    """Make each durable call the whole value of a statement of its own."""
    nodes, _ = _nodes(ir, ir.body, frozenset(ir.parameters))
    return replace(ir, body=nodes)


def _nodes(
    ir: FlowIR, nodes: list[Node], bound: frozenset[str]
) -> tuple[list[Node], frozenset[str]]:
    """Hoist in order; `bound` are the names certainly bound at the start of each node."""
    result: list[Node] = []
    for node in nodes:
        hoister = _Hoister(ir, bound)
        match node:
            case If(test, body, orelse, source):
                test = hoister.test(test)
                result += hoister.prelude
                body, after_body = _nodes(ir, body, bound)
                orelse, after_orelse = _nodes(ir, orelse, bound)
                result.append(If(test, body, orelse, source))
                bound = after_body & after_orelse
            case Scope(label, body, source):
                body, _ = _nodes(ir, body, bound)
                result.append(Scope(label, body, source))
                # An exit may leave the scope before any name in it is bound.
                bound -= deleted_names(source)
            case Exit():
                result.append(node)
            case Code(stmt) if durable_calls(stmt):
                changed = hoister.statement(stmt)
                result += [*hoister.prelude, changed]
                bound = (bound | certainly_bound(stmt)) - deleted_names(stmt)
            case Code(stmt) | Durable(stmt) | Return(stmt):
                result.append(node)
                bound = (bound | certainly_bound(stmt)) - deleted_names(stmt)
            case Region(stmts) | Fan(stmts):
                result.append(node)
                for stmt in stmts:
                    bound = (bound | certainly_bound(stmt)) - deleted_names(stmt)
    return result, bound


@dataclass
class _Hoister(Expressions):
    """Hoists durable calls out of one statement."""

    def statement(self, stmt: ast.stmt) -> Node:
        """Return the remaining statement, which runs after `prelude`."""
        stmt = copy.copy(stmt)
        match stmt:
            case ast.AugAssign():
                return self._augmented(stmt)
            case ast.For():
                stmt.iter = self.lower(stmt.iter)
            case ast.With():
                first = copy.copy(stmt.items[0])
                first.context_expr = self.lower(first.context_expr)
                stmt.items = [first, *stmt.items[1:]]
            case ast.Match():
                stmt.subject = self.lower(stmt.subject)
            case ast.If():
                stmt.test = self.test(stmt.test)
            case ast.Raise():
                stmt.exc, stmt.cause = self._operands([stmt.exc, stmt.cause])
            case ast.Assign() if durable_calls(*stmt.targets):
                self._targets(stmt)
            case ast.Expr() | ast.Assign() | ast.AnnAssign() | ast.Return():
                return self._direct(stmt)
        return Code(stmt)

    def _direct(self, stmt: ast.stmt) -> Node:
        """Lower a statement whose whole value may be a durable call, without a temporary."""
        value = stmt.value  # type: ignore[attr-defined]
        if value is not None:
            value = self.written_out(value)
        call = durable_of(value)
        if call is None and isinstance(value, ast.ListComp | ast.SetComp | ast.DictComp):
            stmt.value = copy.copy(value)  # type: ignore[attr-defined]
            self.first_iterable(stmt.value)  # type: ignore[attr-defined]
            if durable_calls(stmt):
                return comprehension_unit(self.ir, stmt, stmt.value)  # type: ignore[attr-defined]
            return Return(stmt) if isinstance(stmt, ast.Return) else Code(stmt)
        if call is None:
            stmt.value = self.lower(value)  # type: ignore[attr-defined]
            return Return(stmt) if isinstance(stmt, ast.Return) else Code(stmt)
        stmt.value = self._call_operands(value)  # type: ignore[attr-defined]
        return Durable(stmt, call)

    def _targets(self, stmt: ast.Assign) -> None:
        """Lower `xs[ca()] = e`: the right side first, then the parts of the target."""
        target = copy.deepcopy(stmt.targets[0])
        stmt.value = self._spill(self.lower(stmt.value), frozenset(bound_names(target)))
        stmt.targets = [target]
        parts = _target_parts(target)
        lowered = self._operands([getattr(target, name) for name in parts])
        for name, value in zip(parts, lowered, strict=True):
            setattr(target, name, value)

    def _augmented(self, stmt: ast.AugAssign) -> Node:
        """Lower `x += ca()`: read the old value first and change it in place last."""
        target = stmt.target
        if isinstance(target, ast.Name):
            old = self._keep(at(target, ast.Name(target.id, ast.Load())))
            place: ast.Name | ast.Attribute | ast.Subscript = target
        else:
            place = copy.deepcopy(target)
            for name in _target_parts(place):
                setattr(place, name, self._keep(getattr(place, name)))
            reading = copy.deepcopy(place)
            reading.ctx = ast.Load()
            old = self._keep(reading)
        value = self._spill(self.lower(stmt.value))
        changed = at(stmt, ast.AugAssign(ast.Name(old.id, ast.Store()), stmt.op, value))
        self.prelude.append(Code(changed))
        return Code(at(stmt, ast.Assign([place], load(stmt, old.id))))


def _target_parts(target: ast.expr) -> list[str]:
    """Return the fields of a target that are evaluated, in order."""
    return ["value", "slice"] if isinstance(target, ast.Subscript) else ["value"]
