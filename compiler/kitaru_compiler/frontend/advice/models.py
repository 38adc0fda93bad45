"""Decides which calls of models, and which policies for them, the runtime would refuse."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from kitaru.settings import CAPTURES
from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules import kit406
from kitaru_compiler.frontend.advice.body import Body
from kitaru_compiler.frontend.calls import Calls


def model_calls(body: Body) -> Iterator[Diagnostic]:
    """Find model calls with tools and a schema, and policies that do not exist."""
    yield from _policies(body, body.options)
    calls = Calls(body.names, body.source.module).resolved(body.source, body.definition)
    for node, symbol, method in calls:
        if (symbol.kind, symbol.name, method) != ("primitive", "llm", ""):
            continue
        yield from _policies(body, node.keywords)
        given = {k.arg for k in node.keywords if not _is_none(k.value)}
        if given >= {"tools", "schema"}:
            message = "a model call takes tools or a schema, not both"
            fix = "let the model call tools first; then ask for the shape, with what they returned"
            yield body.find(kit406.RULE, node, message, help=fix)


def _policies(body: Body, keywords: Iterable[ast.keyword]) -> Iterator[Diagnostic]:
    for keyword in keywords:
        value = keyword.value
        if keyword.arg != "capture" or not isinstance(value, ast.Constant) or _is_none(value):
            continue
        if value.value not in CAPTURES:
            message = f"capture={value.value!r} is no policy"
            fix = f"use one of {', '.join(CAPTURES)}"
            yield body.find(kit406.RULE, value, message, help=fix)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
