"""Find code of a flow that never runs, and futures that are never read."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.cutting import UNREACHABLE_CODE
from kitaru_compiler.diagnostics.rules.primitives import FUTURE_NEVER_READ
from kitaru_compiler.ir.nodes import durable_of
from kitaru_compiler.lint.body import Body

_LEAVES = {
    ast.Return: "`return`",
    ast.Raise: "`raise`",
    ast.Break: "`break`",
    ast.Continue: "`continue`",
}
_SEES_EVERYTHING = ("locals", "vars", "eval", "exec", "dir")


def unreachable(body: Body) -> Iterator[Diagnostic]:
    """Find the first statement after one that always leaves; nested statements count with it."""
    pending: list[list[ast.stmt]] = [body.definition.body]
    while pending:
        statements = pending.pop()
        for number, stmt in enumerate(statements):
            pending += _inner(stmt)
            leaves = _leaves(stmt)
            if leaves and number + 1 < len(statements):
                after = statements[number + 1]
                message = f"this never runs: the flow always leaves at the {leaves} before it"
                related = ((body.source.span(stmt), "leaves here"),)
                yield body.find(
                    UNREACHABLE_CODE, after, message, "never runs", "remove it", related
                )
                break


def _inner(stmt: ast.stmt) -> list[list[ast.stmt]]:
    if isinstance(stmt, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return []
    lists = [getattr(stmt, name, []) for name in ("body", "orelse", "finalbody")]
    arms = [*getattr(stmt, "handlers", []), *getattr(stmt, "cases", [])]
    return [part for part in [*lists, *(arm.body for arm in arms)] if part]


def _leaves(stmt: ast.stmt) -> str:
    """Return how `stmt` leaves, if the statements after it in its list certainly never run."""
    if isinstance(stmt, ast.If) and stmt.orelse:
        ways = [_leaves(stmt.body[-1]), _leaves(stmt.orelse[-1])]
        return " or ".join(dict.fromkeys(ways)) if all(ways) else ""
    return _LEAVES.get(type(stmt), "")


def futures(body: Body) -> Iterator[Diagnostic]:
    """Find futures that are dropped, or bound to a name that nothing reads."""
    calls = (node for node in body.nodes if isinstance(node, ast.Call))
    if any(body.is_builtin(call.func, *_SEES_EVERYTHING) for call in calls):
        return
    read = {
        node.id
        for node in ast.walk(body.definition)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    for node in body.nodes:
        match node:
            case ast.Expr(value=ast.Call() as call):
                name = ""
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.Call() as call)
            ):
                if name in read | body.globals or name.startswith("_"):
                    continue
            case _:
                continue
        durable = durable_of(call)
        if durable and durable.kind == "submit":
            yield _unread(body, call, name, durable.name)


def _unread(body: Body, call: ast.Call, name: str, checkpoint: str) -> Diagnostic:
    message = f"nothing reads this future of `{checkpoint}`: the flow still waits for it at its end"
    fix = f"`{name or 'future'}.result()` where the work must be done"
    if not name:
        fix = f"keep it, `future = …`, and call {fix}"
    return body.find(FUTURE_NEVER_READ, call, message, help=fix)
