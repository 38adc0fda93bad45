"""Move the calls of handlers and of `else` behind their `try`, and its own calls into steps.

The handler itself only stores which handler ran. Its calls follow as a branch:

    try:                                    try:
        text = ask(prompt)                      text = ask(prompt)
    except ValueError as error:             except ValueError as error:
        log.info("%s", error)                   log.info("%s", error)
        text = ask_again(prompt)                case_1 = 1
                                            else:
                                                case_1 = 0
                                            if case_1 == 1:
                                                text = ask_again(prompt)

Code before the first call stays in the handler. So do the arguments of that call if they read the
exception. Later code must not read the exception, because it does not exist in another process.

A `try` with several calls becomes one `try` per call, each with the same handlers:

    try:                                    try:
        text = draft(topic)                     text = draft(topic)
        publish(text)                       except ValueError:
    except ValueError:                          text = ""
        text = ""                               case_1 = 1
                                            else:
                                                case_1 = 0
                                            if case_1 == 0:
                                                try:
                                                    publish(text)
                                                except ValueError:
                                                    text = ""

If every handler leaves the function (`raise`, `return`), there is no branch.
"""

from __future__ import annotations

import ast
import copy

from kitaru_compiler.ir.build import assign, at, load
from kitaru_compiler.ir.known import reads_exception
from kitaru_compiler.ir.nodes import FlowIR, durable_calls, durable_of

# The reason and the fix.
Why = tuple[str, str]
_LEAVES = ast.Return | ast.Raise | ast.Break | ast.Continue
# Each part of a `try` has a copy of its handlers, and nests one level deeper than the part before.
MAX_PARTS = 12


def calls_follow(ir: FlowIR, stmt: ast.Try) -> list[ast.stmt] | None:
    """Return a `try` without the calls of its handlers and `else`, and a branch with those calls.

    Return None if there are no such calls, or if they must stay in the `try`.
    """
    if not durable_calls(*stmt.handlers, *stmt.orelse) or why_together(ir, stmt):
        return None
    name = ir.temporary("case")
    plain = copy.copy(stmt)
    plain.handlers = []
    rest: list[ast.stmt] = []
    if durable_calls(*stmt.orelse):
        rest, plain.orelse = stmt.orelse, []
    plain.orelse = [*plain.orelse, _case(stmt, name, 0)]
    arms: list[tuple[int, list[ast.stmt]]] = []
    for number, handler in enumerate(stmt.handlers, 1):
        kept, moved = _divided(ir, handler)
        handler = copy.copy(handler)
        # The number zero stands for the `else`.
        stored = _case(handler, name, number if moved or rest else 0)
        handler.body = kept if kept and isinstance(kept[-1], _LEAVES) else [*kept, stored]
        plain.handlers.append(handler)
        if moved:
            arms.append((number, moved))
    if rest:
        arms.append((0, rest))
    branch: list[ast.stmt] = []
    for number, body in reversed(arms):
        place = body[0]
        test = at(place, ast.Compare(load(place, name), [ast.Eq()], [ast.Constant(number)]))
        branch = [at(place, ast.If(test, body, branch))]
    return [plain, *branch]


def parts_apart(ir: FlowIR, stmt: ast.Try) -> list[ast.stmt] | None:
    """Return one `try` per call of the body, None if the body must stay together."""
    if stmt.finalbody or durable_calls(*stmt.handlers, *stmt.orelse):
        return None
    if any(call.kind == "submit" for call in durable_calls(stmt)):
        return None
    parts: list[list[ast.stmt]] = [[]]
    for inner in stmt.body:
        if durable_calls(inner) and durable_calls(*parts[-1]):
            parts.append([])
        parts[-1].append(inner)
    if not 1 < len(parts) <= MAX_PARTS:
        return None
    ends = all(isinstance(handler.body[-1], ast.Return | ast.Raise) for handler in stmt.handlers)
    name = "" if ends else ir.temporary("case")
    rest: list[ast.stmt] = []
    for body in reversed(parts):
        attempt = copy.copy(stmt)
        attempt.body = body
        attempt.handlers = copy.deepcopy(stmt.handlers)
        if rest:
            attempt.orelse = [_case(body[-1], name, 0)] if name else []
        if rest and name:
            for handler in attempt.handlers:
                if not isinstance(handler.body[-1], _LEAVES):
                    handler.body.append(_case(handler, name, 1))
            place = rest[0]
            test = at(place, ast.Compare(load(place, name), [ast.Eq()], [ast.Constant(0)]))
            rest = [at(place, ast.If(test, rest, []))]
        rest = [attempt, *rest]
    return rest


def why_together(ir: FlowIR, stmt: ast.Try) -> Why | None:
    """Return why the calls of a handler or `else` must stay in the `try`, and the fix."""
    if stmt.finalbody:
        return "`finally` runs after them, in the same process", "move it behind the `try`"
    if durable_calls(*(h.type for h in stmt.handlers if h.type)):
        return "a checkpoint is called in `except`", "assign its result to a variable first"
    for handler in stmt.handlers:
        if not durable_calls(handler):
            continue
        if ir.exception_reader:
            reason = f"{ir.exception_reader} reads the exception that a handler handles"
            return reason, "read it in the handler, and pass on what is needed"
        if _reads(handler, _moved(handler)):
            reason = "a handler reads the exception after it has called a checkpoint"
            return reason, "read it before the call, or raise a new exception after the call"
    return None


def _moved(handler: ast.ExceptHandler) -> list[ast.AST]:
    """Return the statements that leave a handler, without arguments that it can evaluate itself."""
    first = next(i for i, stmt in enumerate(handler.body) if durable_calls(stmt))
    stmts = handler.body[first:]
    call = _reading_call(handler, stmts[0])
    if call is None:
        return [*stmts]
    targets = [*getattr(stmts[0], "targets", [getattr(stmts[0], "target", None)])]
    return [call.func, *filter(None, targets), *stmts[1:]]


def _divided(ir: FlowIR, handler: ast.ExceptHandler) -> tuple[list[ast.stmt], list[ast.stmt]]:
    """Divide a handler into the statements before its first call and those from that call on."""
    if not durable_calls(handler):
        return handler.body, []
    first = next(i for i, stmt in enumerate(handler.body) if durable_calls(stmt))
    kept, stmt = handler.body[:first], handler.body[first]
    if call := _reading_call(handler, stmt):
        call = copy.copy(call)
        stmt = copy.copy(stmt)
        stmt.value = call  # type: ignore[attr-defined]
        values = [*call.args, *(keyword.value for keyword in call.keywords)]
        names = [ir.temporary("kept") for _ in values]
        kept = [*kept, *(assign(v, n, v) for v, n in zip(values, names, strict=True))]
        loads = [load(v, n) for v, n in zip(values, names, strict=True)]
        call.keywords = [
            ast.copy_location(ast.keyword(keyword.arg, value), keyword)
            for keyword, value in zip(call.keywords, loads[len(call.args) :], strict=True)
        ]
        call.args = [*loads[: len(call.args)]]
    return kept, [stmt, *handler.body[first + 1 :]]


def _reading_call(handler: ast.ExceptHandler, stmt: ast.stmt) -> ast.Call | None:
    """Return the call that is a statement's value if its arguments read the exception.

    The handler can evaluate the arguments if they contain no other call of a checkpoint.
    """
    call = getattr(stmt, "value", None)
    simple = isinstance(stmt, ast.Assign | ast.AnnAssign | ast.Expr | ast.Return)
    if not simple or not isinstance(call, ast.Call) or durable_of(call) is None:
        return None
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    unpacks = any(isinstance(a, ast.Starred) for a in values) or not all(
        keyword.arg for keyword in call.keywords
    )
    callee: ast.AST = call.func
    while isinstance(callee, ast.Attribute):
        callee = callee.value
    if unpacks or not isinstance(callee, ast.Name) or len(durable_calls(stmt)) != 1:
        return None
    return call if _reads(handler, values) else None


def _reads(handler: ast.ExceptHandler, nodes: list[ast.AST] | list[ast.expr]) -> bool:
    """Return whether code reads its handler's exception, by name or as the current exception."""
    return any(
        reads_exception(node) or (isinstance(node, ast.Name) and node.id == handler.name)
        for part in nodes
        for node in ast.walk(part)
    )


def _case(place: ast.AST, name: str, number: int) -> ast.stmt:
    where = place.body[-1] if isinstance(place, ast.ExceptHandler) else place
    return assign(where, name, at(where, ast.Constant(number)))
