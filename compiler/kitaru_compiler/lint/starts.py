"""Find statements at the top level of a module that start an execution.

Kitaru skips them when it imports the module (see `kitaru.wire.importing`). A start is a call of a
method of a flow, `main.run(…)`, directly or in a function that the top level calls.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.targets import START_AT_IMPORT
from kitaru_compiler.frontend.names import Names
from kitaru_compiler.frontend.source import Source

_STARTS = frozenset({"run", "resume", "replay", "invoke", "deploy"})
# Methods of a flow whose result can start it: `main.options(cache=False).run(…)`.
_GIVES_STARTS = frozenset({"options", "deployment"})
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def starts_at_import(names: Names, module: str) -> Iterator[Diagnostic]:
    """Yield one finding for each top-level statement that starts an execution."""
    sources = names.project.closure(module).sources.values()
    near = names.near_kitaru()
    for source in (source for source in sources if source.module in near):
        for statement in source.tree.body:
            if not _is_main_guard(statement) and (call := _start(names, source, statement, set())):
                message = "an import by Kitaru does not execute this start of an execution"
                help = 'put it under `if __name__ == "__main__":`'
                yield Diagnostic(START_AT_IMPORT, source.span(call), message, help=help)


def _start(names: Names, source: Source, tree: ast.AST, entered: set[ast.AST]) -> ast.Call | None:
    """Return the first call below `tree`, outside functions, that starts an execution."""
    for node in _executed(tree):
        if not isinstance(node, ast.Call):
            continue
        if _is_start(names, source, node.func):
            return node
        called = names.resolve(source, node.func)
        if called is None or called.source is None or called.kind != "function":
            continue
        inner = called.definition
        if not isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) or inner in entered:
            continue
        entered.add(inner)
        if any(_start(names, called.source, part, entered) for part in inner.body):
            return node
    return None


def _is_start(names: Names, source: Source, callee: ast.expr) -> bool:
    if not isinstance(callee, ast.Attribute) or callee.attr not in _STARTS:
        return False
    flow = callee.value
    if isinstance(flow, ast.Call) and isinstance(flow.func, ast.Attribute):
        flow = flow.func.value if flow.func.attr in _GIVES_STARTS else flow
    symbol = names.resolve(source, flow)
    return symbol is not None and symbol.kind == "flow"


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run with a statement, without those in functions that it defines."""
    pending = [tree]
    while pending:
        node = pending.pop(0)
        yield node
        if not isinstance(node, _SCOPES):
            pending += ast.iter_child_nodes(node)
        elif not isinstance(node, ast.Lambda):
            pending += node.decorator_list


def _is_main_guard(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.If)
        and isinstance(statement.test, ast.Compare)
        and any(
            isinstance(side, ast.Name) and side.id == "__name__"
            for side in (statement.test.left, *statement.test.comparators)
        )
    )
