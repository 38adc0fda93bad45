"""Keep tasks and coroutines in one process, from where they are made to their last use.

A task ends with its process, and a coroutine cannot be recorded. Tasks that the source does not
show are found at run time: no cut is made while one is alive.

Before::

    drafting = asyncio.create_task(draft(topic))
    checked = await check(topic)
    text = await drafting
    return await publish(text)

After::

    # region: `draft` is not awaited where it is called
    drafting = asyncio.create_task(draft(topic))
    checked = check(topic)
    text = await drafting
    return publish(text)
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace

from kitaru_compiler.diagnostics.model import Rule
from kitaru_compiler.diagnostics.rules.cutting import TASKS_STAY_TOGETHER
from kitaru_compiler.ir.awaits import asyncio_name
from kitaru_compiler.ir.build import rewrite
from kitaru_compiler.ir.nodes import (
    Code,
    DurableCall,
    FlowIR,
    Node,
    Region,
    durable_calls,
    durable_of,
    is_deferred,
)
from kitaru_compiler.ir.scope import own_statements, read_names, target_names
from kitaru_compiler.ir.walk import children, walk
from kitaru_compiler.passes.fan_out import stmts_of

Why = tuple[Rule, str, str]
# What makes tasks of coroutines, in asyncio and as methods of loops and task groups.
_MAKES_TASKS = frozenset({"create_task", "ensure_future", "gather", "as_completed", "start_soon"})
# Methods of a task whose value contains no task.
_ASKS = frozenset({"result", "exception", "done", "cancel", "cancelled"})


def tasks(ir: FlowIR) -> FlowIR:
    """Make a region of the statements from one that leaves tasks behind to their last use."""
    if not ir.is_async:
        return ir
    variables = ir.locals.union(ir.temporaries)
    return replace(ir, body=rewrite(ir.body, lambda nodes: _together(nodes, variables)))


def why_deferred(call: DurableCall) -> Why:
    """Explain a call whose coroutine is not awaited where it is made."""
    if not call.is_async:
        reason = f"`{call.name}` returns coroutines of its calls"
        return TASKS_STAY_TOGETHER, reason, f"make `{call.name}` async, and await it"
    reason = f"`{call.name}` is not awaited where it is called"
    fix = "await the call, or pass calls of checkpoints alone to `await asyncio.gather(…)`"
    return TASKS_STAY_TOGETHER, reason, fix


def _together(nodes: list[Node], variables: frozenset[str]) -> list[Node]:
    result: list[Node] = []
    start = 0
    while start < len(nodes):
        end = _last_use(nodes, start, variables)
        part = nodes[start : end + 1]
        stmts = [stmt for node in part for stmt in stmts_of(node)]
        if end > start and durable_calls(*stmts):
            result.append(_region(part, stmts))
        else:
            result += part
        start = end + 1
    return result


def _region(nodes: list[Node], stmts: list[ast.stmt]) -> Region:
    first = nodes[0]
    if isinstance(first, Region):
        return replace(first, stmts=stmts, calls=durable_calls(*stmts))
    deferred = [node for stmt in stmts for node in walk(stmt) if is_deferred(node)]
    place: ast.AST = deferred[0] if deferred else stmts[0]
    call = durable_of(place)
    rule, reason, fix = (
        why_deferred(call)
        if call
        else (TASKS_STAY_TOGETHER, "a task runs beside these calls", "await the task first")
    )
    return Region(stmts, durable_calls(*stmts), rule, reason, place, fix)


def _last_use(nodes: list[Node], start: int, variables: frozenset[str]) -> int:
    """Return the index of the last node that uses the tasks which the node at `start` leaves."""
    if not isinstance(nodes[start], Code | Region):
        return start
    tainted = {name for stmt in stmts_of(nodes[start]) for name in _left_in(stmt)} & variables
    end = start
    for index in range(start + 1, len(nodes) if tainted else 0):
        stmts = stmts_of(nodes[index])
        if any(read_names(stmt) & tainted for stmt in stmts):
            end = index
            for stmt in stmts:
                tainted |= (_copied(stmt, tainted) | {*_left_in(stmt)}) & variables
    return end


def _left_in(stmt: ast.stmt) -> Iterator[str]:
    """Yield the variables in which a statement leaves tasks or coroutines."""
    # The tasks of a group have ended when control leaves the group.
    groups = {
        item.optional_vars.id
        for inner in own_statements(stmt)
        if isinstance(inner, ast.AsyncWith)
        for item in inner.items
        if asyncio_name(item.context_expr) == "TaskGroup"
        and isinstance(item.optional_vars, ast.Name)
    }
    for inner in own_statements(stmt):
        parts = [part for part in children(inner) if not isinstance(part, ast.stmt)]
        if not any(_leaves(part, groups) for part in parts):
            continue
        yield from _targets(inner)
        for node in (node for part in parts for node in walk(part)):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name))):
                    yield name


def _leaves(node: ast.AST, groups: set[str]) -> bool:
    """Return whether an expression leaves behind a task or a coroutine that it makes.

    `groups` are the names of the task groups around it.
    """
    match node:
        case ast.Await(value=value):
            # The sets of tasks that `asyncio.wait` returns contain the unfinished ones.
            return asyncio_name(value) == "wait"
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="create_task")) if (
            name in groups
        ):
            return False
        case ast.Call(func=ast.Attribute(attr=name)) if name in _MAKES_TASKS:
            return True
    if is_deferred(node) or asyncio_name(node) in _MAKES_TASKS:
        return True
    return any(_leaves(child, groups) for child in children(node))


def _copied(stmt: ast.stmt, tainted: set[str]) -> set[str]:
    """Return the variables that receive a task from one of `tainted`."""
    found: set[str] = set()
    for inner in own_statements(stmt):
        parts = [part for part in children(inner) if not isinstance(part, ast.stmt)]
        if any(_mentions(part, tainted) for part in parts):
            found |= _targets(inner)
    return found


def _mentions(node: ast.AST, names: set[str]) -> bool:
    match node:
        case ast.Await():
            return False
        case ast.Call(func=ast.Attribute(attr=name)) if name in _ASKS:
            return False
        case ast.Name(id=name, ctx=ast.Load()):
            return name in names
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            for loop in node.generators:
                if _mentions(loop.iter, names):
                    names = names | target_names(loop.target)
            kept = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
            return any(_mentions(part, names) for part in kept)
    return any(_mentions(child, names) for child in children(node))


def _targets(stmt: ast.stmt) -> set[str]:
    match stmt:
        case ast.Assign(targets=targets):
            found = targets
        case ast.AnnAssign(target=target) | ast.AugAssign(target=target) | ast.For(target=target):
            found = [target]
        case ast.With(items=items) | ast.AsyncWith(items=items):
            found = [item.optional_vars for item in items if item.optional_vars]
        case _:
            found = []
    bound = {name for target in found for name in target_names(target)}
    holders = (node for target in found for node in walk(target))
    return bound | {n.id for n in holders if isinstance(n, ast.Name)}
