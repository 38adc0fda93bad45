"""Successors of each block, read from the conditions in `steps.py`."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass

from kitaru_compiler.ir.scope import own_statements

from kitaru.runtime.steps.blocks import Function, located
from kitaru.wire.plan import Plan


@dataclass(frozen=True, slots=True, eq=False)
class Jump:
    """A jump to block `target`; None is the end of the flow, by a `return` or a `raise`."""

    target: str | None
    stmt: ast.stmt


@dataclass(frozen=True, slots=True, eq=False)
class Test:
    """A decision. If two paths reach the same test, both refer to one object."""

    expression: ast.expr
    true: Way
    false: Way


@dataclass(frozen=True, slots=True, eq=False)
class Perhaps:
    """A statement that may end the flow from inside, such as a loop with a `return`."""

    stmt: ast.stmt
    otherwise: Way


Way = Jump | Test | Perhaps | None


def ways(plan: Plan, steps: str) -> Mapping[str, Way]:
    """Return the exit of each block by name; positions are those of the user's source.

    A block without a function of its own (an uncut flow) ends the flow.
    """
    tree = located(plan, steps)
    return {f.name: _way(f.body, None) for f in tree.body if isinstance(f, Function)}


def _way(body: list[ast.stmt], after: Way) -> Way:
    way = after
    for stmt in reversed(body):
        match stmt:
            case ast.Return():
                way = Jump(_target(stmt), stmt)
            case ast.Raise():
                way = Jump(None, stmt)
            case ast.If() if _returns(stmt):
                way = Test(stmt.test, _way(stmt.body, way), _way(stmt.orelse, way))
            case _ if _returns(stmt):
                way = Perhaps(stmt, way)
    return way


def _target(stmt: ast.Return) -> str | None:
    match stmt.value:
        case ast.Tuple(elts=[ast.Constant(value=str(name)), _]):
            return name
    return None


def _returns(stmt: ast.stmt) -> bool:
    return any(isinstance(inner, ast.Return) for inner in own_statements(stmt))
