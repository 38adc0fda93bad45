"""Decides which cleanup of a flow's body a suspension leaves out."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules import kit331
from kitaru_compiler.frontend.advice.body import Body
from kitaru_compiler.ir.nodes import durable_calls, durable_of

_FIX = "keep the wait outside, and give back before it what nobody should hold so long"


def cleanup_around_waits(body: Body) -> Iterator[Diagnostic]:
    """Find `finally`, `with` and handlers for everything around a wait."""
    for node in body.nodes:
        match node:
            case ast.With(items=[item, *_], body=inside) if wait := _wait(inside):
                message = "this block is left after the answer, not when the flow suspends in it"
                yield _found(body, item.context_expr, message, wait)
            case ast.Try(body=inside) | ast.TryStar(body=inside) if wait := _wait(inside):
                if node.finalbody:
                    message = "this `finally` runs after the answer, not when the flow suspends"
                    yield _found(body, node.finalbody[0], message, wait)
                yield from _catch_all(body, node, wait)


def _catch_all(body: Body, node: ast.Try | ast.TryStar, wait: ast.Call) -> Iterator[Diagnostic]:
    for handler in node.handlers:
        everything = handler.type is None or body.is_builtin(handler.type, "BaseException")
        if everything and durable_calls(*handler.body):
            message = "a suspension is no exception: this handler does not see it"
            yield _found(body, handler.body[0], message, wait, "catch `Exception`: it says as much")


def _found(body: Body, node: ast.AST, message: str, wait: ast.Call, help: str = _FIX) -> Diagnostic:
    related = ((body.source.span(wait), "suspends here"),)
    return body.find(kit331.RULE, node, message, help=help, related=related)


def _wait(statements: list[ast.stmt]) -> ast.Call | None:
    """Return the first call in `statements` that may suspend the flow."""
    nodes = (node for stmt in statements for node in ast.walk(stmt))
    calls = (node for node in nodes if isinstance(node, ast.Call))
    return next((c for c in calls if (durable := durable_of(c)) and durable.may_wait), None)
