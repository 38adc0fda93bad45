"""Call each checkpoint of a table in an arm of its own.

The arms are guarded by identity, and the last arm calls the value itself: whatever the table
contains, the call has the meaning that it has in Python.

Before::

    step = STEPS[topic]
    text = step(items)
    return text

After::

    step = STEPS[topic]
    if step is research:  # branch
        text = research(items)
    else:
        text = step(items)
    return text
"""

from __future__ import annotations

import ast
import copy
from dataclasses import replace

from kitaru_compiler.ir.build import assign, at, load, rewrite
from kitaru_compiler.ir.nodes import (
    Code,
    DurableCall,
    FlowIR,
    Node,
    durable_calls,
    durable_of,
    mark_durable,
)
from kitaru_compiler.ir.scope import certainly_bound, deleted_names
from kitaru_compiler.passes.branches import structure


def dispatch(ir: FlowIR) -> FlowIR:
    """Turn statements whose value is a call through a table into branches."""
    return replace(ir, body=rewrite(ir.body, lambda nodes: _decided(ir, nodes)))


def _decided(ir: FlowIR, nodes: list[Node]) -> list[Node]:
    result: list[Node] = []
    bound = frozenset(ir.parameters)
    for node in nodes:
        stmts = _branch(ir, node.stmt, bound) if isinstance(node, Code) else None
        result += [node] if stmts is None else structure(ir, stmts)
        if isinstance(node, Code):
            bound = (bound | certainly_bound(node.stmt)) - deleted_names(node.stmt)
    return result


def _branch(ir: FlowIR, stmt: ast.stmt, bound: frozenset[str]) -> list[ast.stmt] | None:
    """Return the statements that decide which checkpoint `stmt` calls, None if it has no choice.

    Before a `try`, only a variable that certainly has a value can be read.
    """
    match stmt:
        case ast.Try(body=[inner]):
            call = _call(inner)
            if call is None or not isinstance(call.func, ast.Name) or call.func.id not in bound:
                return None
        case _:
            call = _call(stmt)
    if call is None or len(durable_calls(stmt)) != 1:
        return None
    made = durable_of(call)
    # A local function may have a variable with the name of a checkpoint.
    if made is None or not ir.locals.isdisjoint(name for name, _ in made.choices):
        return None
    before: list[ast.stmt] = []
    chosen = call.func
    if not isinstance(chosen, ast.Name):
        name = ir.temporary("callee")
        before, chosen = [assign(chosen, name, chosen)], load(chosen, name)
    *others, (_, last) = made.choices
    branch = [_calling(stmt, chosen, last)]
    for name, one in reversed(others):
        callee = load(chosen, name)
        test = at(chosen, ast.Compare(copy.copy(chosen), [ast.Is()], [callee]))
        branch = [at(stmt, ast.If(test, [_calling(stmt, callee, one)], branch))]
    return [*before, *branch]


def _call(stmt: ast.stmt) -> ast.Call | None:
    """Return the call with choices that is the whole value of a statement."""
    if not isinstance(stmt, ast.Assign | ast.AnnAssign | ast.Expr | ast.Return):
        return None
    value = stmt.value
    call = durable_of(value) if value is not None else None
    return value if isinstance(value, ast.Call) and call and call.choices else None


def _calling(stmt: ast.stmt, callee: ast.expr, made: DurableCall) -> ast.stmt:
    """Return a copy of the statement that calls `callee`."""
    changed = copy.deepcopy(stmt)
    inner = changed.body[0] if isinstance(changed, ast.Try) else changed
    call = inner.value  # type: ignore[attr-defined]
    call.func = callee
    mark_durable(call, made)
    return changed
