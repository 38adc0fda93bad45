"""Find model calls that the runtime would refuse."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.primitives import MODEL_CALL_REFUSED
from kitaru_compiler.frontend.calls import Calls
from kitaru_compiler.lint.body import Body


def model_calls(body: Body) -> Iterator[Diagnostic]:
    """Find model calls with both tools and a schema."""
    calls = Calls(body.names, body.source.module).resolved(body.source, body.definition)
    for node, symbol, method in calls:
        if (symbol.kind, symbol.name, method) != ("primitive", "llm", ""):
            continue
        given = {k.arg for k in node.keywords if not _is_none(k.value)}
        if given >= {"tools", "schema"}:
            message = "a model call takes tools or a schema, not both"
            fix = "let the model call tools first; then ask for the shape, with what they returned"
            yield body.find(MODEL_CALL_REFUSED, node, message, help=fix)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
