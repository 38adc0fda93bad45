"""Find waits with surprising effects: cleanup skipped by a suspension, and occupied compute."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from datetime import timedelta

from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.cutting import CLEANUP_AROUND_WAIT
from kitaru_compiler.diagnostics.rules.primitives import LONG_POLLING
from kitaru_compiler.ir.nodes import durable_calls, durable_of
from kitaru_compiler.lint.body import Body

LONGEST_POLL = timedelta(minutes=10)
_FIX = "keep the wait outside, and give back before it what nobody should hold so long"


def cleanup_around_waits(body: Body) -> Iterator[Diagnostic]:
    """Find `finally`, `with` and catch-all handlers around a wait."""
    for node in body.nodes:
        match node:
            case (
                ast.With(items=[item, *_], body=inside)
                | ast.AsyncWith(items=[item, *_], body=inside)
            ) if wait := _wait(inside):
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
    return body.find(CLEANUP_AROUND_WAIT, node, message, help=help, related=related)


def _wait(statements: list[ast.stmt]) -> ast.Call | None:
    """Return the first call in `statements` that may suspend the flow."""
    nodes = (node for stmt in statements for node in ast.walk(stmt))
    calls = (node for node in nodes if isinstance(node, ast.Call))
    return next((c for c in calls if (durable := durable_of(c)) and durable.may_wait), None)


def long_polling(body: Body) -> Iterator[Diagnostic]:
    """Find waits that occupy the compute for longer than `LONGEST_POLL`."""
    for node in body.nodes:
        durable = durable_of(node)
        if not isinstance(node, ast.Call) or durable is None or durable.kind != "wait":
            continue
        for keyword in node.keywords:
            length = _length(body, keyword.value) if keyword.arg == "timeout" else None
            if length and length > LONGEST_POLL:
                message = f"this wait keeps its compute for {_shown(length)} before it suspends"
                fix = (
                    "leave `timeout` out: the execution waits as long without it, and costs nothing"
                )
                yield body.find(LONG_POLLING, keyword.value, message, help=fix)


def _length(body: Body, value: ast.expr) -> timedelta | None:
    """Return a literal duration, in seconds or as a timedelta."""
    try:
        if isinstance(value, ast.Call) and body.outside(value.func) == "datetime.timedelta":
            parts = {k.arg: ast.literal_eval(k.value) for k in value.keywords if k.arg}
            return timedelta(*map(ast.literal_eval, value.args), **parts)
        return timedelta(seconds=ast.literal_eval(value))
    except (ValueError, TypeError, SyntaxError, OverflowError, MemoryError, RecursionError):
        return None


def _shown(length: timedelta) -> str:
    hours = length.total_seconds() / 3600
    if hours >= 48:
        return f"{hours / 24:g} days"
    return f"{hours:g} hours" if hours >= 1 else f"{hours * 60:g} minutes"
