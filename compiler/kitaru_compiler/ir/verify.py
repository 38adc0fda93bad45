"""Verify that a flow is in normal form. A pass that breaks it is a bug of the compiler."""

from __future__ import annotations

import ast

from kitaru_compiler.ir.exits import escapes
from kitaru_compiler.ir.nodes import (
    Code,
    Durable,
    Exit,
    Fan,
    FlowIR,
    If,
    Inline,
    Node,
    Region,
    Return,
    Scope,
    durable_calls,
    durable_of,
)
from kitaru_compiler.ir.scope import own_nodes


class NotNormal(AssertionError):
    """A pass produced code that the next stage does not accept."""


def verify(ir: FlowIR) -> FlowIR:
    """Return a flow in normal form; raise NotNormal unless a block can start at each call."""
    _verify(ir.body)
    _need(not escapes(ir.body), ir.definition, "an exit leaves a scope that does not hold it")
    return ir


def _verify(nodes: list[Node]) -> None:
    for node in nodes:
        match node:
            case Code(stmt):
                _need(not durable_calls(stmt), stmt, "code holds a durable call")
            case Durable(stmt):
                value = getattr(stmt, "value", None)
                _need(value is not None and durable_of(value) is not None, stmt, "no durable call")
                _need(
                    len(durable_calls(stmt)) == 1, stmt, "more than one durable call in a statement"
                )
            case If(test, body, orelse):
                _need(not durable_calls(test), test, "a test holds a durable call")
                _verify(body)
                _verify(orelse)
            case Scope(body=body):
                _verify(body)
            case Return(stmt):
                _need(not durable_calls(stmt), stmt, "a return holds a durable call")
            case Inline(body=body):
                _verify(body)
            case Region(stmts):
                _need(bool(stmts), ast.Pass(), "an empty region")
            case Fan(stmts):
                kinds = {call.kind for call in durable_calls(*stmts)}
                _need(kinds == {"submit"}, stmts[0], "a fan does more than submit")
        for part in _parts(node):
            for child in own_nodes(part):
                has_place = "lineno" not in child._attributes or hasattr(child, "lineno")
                _need(has_place, part, f"a {type(child).__name__} without a position")


def _parts(node: Node) -> list[ast.AST]:
    match node:
        case If(test):
            return [test]
        case Region(stmts) | Fan(stmts):
            return [*stmts]
        case Inline(arguments=arguments, defaults=defaults):
            return [*(value for _, value in arguments), *defaults]
        case Code(stmt) | Durable(stmt) | Return(stmt) | Exit(stmt=stmt):
            return [stmt]
        case Scope():
            return []


def _need(condition: bool, place: ast.AST, message: str) -> None:
    if not condition:
        raise NotNormal(f"line {getattr(place, 'lineno', '?')}: {message}")
