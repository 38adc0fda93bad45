"""Turn submitted calls that run alongside no other call into a native fan-out.

A durable call between a submit and the first use of its future runs concurrently with the submitted
call. Both stay in one process, because a cut between them would wait for the submitted call first.

Before::

    futures = [draft.submit(item) for item in items]
    return [f.result() for f in futures]

After::

    # fan-out
    futures = [draft.submit(item) for item in items]
    return [f.result() for f in futures]

Before::

    first = draft.submit(topic)
    checked = check(topic)
    return first.result()

After::

    # region: submitted calls of `draft` run beside `check`, in one process
    first = draft.submit(topic)
    checked = check(topic)
    return first.result()
"""

from __future__ import annotations

import ast
from dataclasses import replace

from kitaru_compiler.diagnostics.rules.cutting import WORK_BESIDE_SUBMITTED_CALLS
from kitaru_compiler.ir.build import assign, at, load, rewrite
from kitaru_compiler.ir.nodes import (
    Code,
    Exit,
    Fan,
    FlowIR,
    If,
    Node,
    Region,
    Return,
    Scope,
    durable_calls,
)
from kitaru_compiler.ir.scope import read_names
from kitaru_compiler.passes.submits import (
    is_only_submitting,
    looked_at,
    others_beside,
    split_reason,
    stored_into,
    submits,
)


def fan_out(ir: FlowIR) -> FlowIR:
    """Turn each statement that only submits into a fan, and concurrent calls into a region."""
    return replace(ir, body=rewrite(ir.body, lambda nodes: _fanned(ir, nodes)))


def _fanned(ir: FlowIR, nodes: list[Node]) -> list[Node]:
    if not any(isinstance(node, Code) and submits(node.stmt) for node in nodes):
        return nodes
    nodes = [part for node in nodes for part in _list_first(ir, node)]
    read_after = _read_after(nodes)
    result: list[Node] = []
    start = 0
    while start < len(nodes):
        node = nodes[start]
        if not isinstance(node, Code) or not submits(node.stmt):
            result.append(node)
            start += 1
            continue
        end, why = _follow(ir, nodes, start, read_after)
        part = nodes[start:end]
        result += [_region(part, why)] if why else [_fan(ir, one) for one in part]
        start = end
    return result


def _list_first(ir: FlowIR, node: Node) -> list[Node]:
    """Assign the list that a submitting loop gets from a checkpoint to a variable first."""
    match node:
        case Code(ast.For(iter=iterable, body=body) as loop) if submits(*body):
            if durable_calls(iterable):
                name = ir.temporary("items")
                over = at(loop, ast.For(loop.target, load(iterable, name), body, loop.orelse))
                return [Code(assign(iterable, name, iterable)), Code(over)]
    return [node]


def _follow(
    ir: FlowIR, nodes: list[Node], start: int, read_after: list[set[str]]
) -> tuple[int, str]:
    """Return where all futures submitted from `start` on have been used, or why they stay."""
    pending: set[str] = set()
    # The futures that were pending when one of them was read.
    gathered: set[str] = set()
    for index in range(start, len(nodes)):
        pending &= read_after[index - 1] if index else set()
        if index > start and not pending:
            return index, ""
        node = nodes[index]
        beside = _beside(ir, node, pending, gathered)
        if beside:
            why = f"{_submitted(nodes[start : index + 1])} run beside {beside}"
            return _last_use(nodes, start), why
        (stmt,) = stmts_of(node)
        if seen := looked_at(stmt, pending):
            gathered |= pending
            pending -= seen
        pending |= stored_into(stmt, pending)
    return len(nodes), ""


def _beside(ir: FlowIR, node: Node, pending: set[str], gathered: set[str]) -> str:
    """Return the call that runs concurrently with the pending calls and would not after a cut."""
    if isinstance(node, If) and looked_at(ast.Expr(node.test), pending):
        return ""
    if not isinstance(node, Code):
        return "a branch" if pending and not isinstance(node, Return) else ""
    stmt = node.stmt
    if submits(stmt):
        why = split_reason(stmt, ir.locals.union(ir.temporaries))
        rest = pending - looked_at(stmt, pending)
        if not why and rest and (gathered or rest != pending):
            why = "what is submitted later"
        if why:
            return why
    return others_beside(stmt, pending - gathered)


def _fan(ir: FlowIR, node: Node) -> Node:
    if isinstance(node, Code) and is_only_submitting(node.stmt, ir.locals.union(ir.temporaries)):
        return Fan([node.stmt], durable_calls(node.stmt))
    return node


def _submitted(nodes: list[Node]) -> str:
    stmts = [stmt for node in nodes for stmt in stmts_of(node)]
    submitted = [call.name for call in durable_calls(*stmts) if call.kind == "submit"]
    names = " and ".join(f"`{name}`" for name in dict.fromkeys(submitted))
    return f"submitted calls of {names}"


def _region(nodes: list[Node], why: str) -> Region:
    stmts = [stmt for node in nodes for stmt in stmts_of(node)]
    reason = f"{why}, in one process"
    fix = "submit together, and ask for all results before anything else is called"
    return Region(stmts, durable_calls(*stmts), WORK_BESIDE_SUBMITTED_CALLS, reason, stmts[0], fix)


def _last_use(nodes: list[Node], start: int) -> int:
    """Return the end of the statements from `start` that submit, or use a submitted call."""
    futures: set[str] = set()
    end = start
    for index in range(start, len(nodes)):
        stmts = stmts_of(nodes[index])
        if any(submits(stmt) for stmt in stmts):
            futures |= set().union(*(stored_into(stmt, futures) for stmt in stmts))
            end = index
        elif any(read_names(stmt) & futures for stmt in stmts):
            end = index
    return end + 1


def _read_after(nodes: list[Node]) -> list[set[str]]:
    """Return for each node the names that later nodes read."""
    found: list[set[str]] = []
    names: set[str] = set()
    for node in reversed(nodes):
        found.append(names)
        names = names.union(*map(read_names, stmts_of(node)))
    return found[::-1]


def stmts_of(node: Node) -> list[ast.stmt]:
    """Return the source statements of a node."""
    match node:
        case If(source=source) | Scope(source=source):
            return [source]
        case Region(stmts) | Fan(stmts):
            return stmts
        case Code(stmt) | Return(stmt) | Exit(stmt=stmt):
            return [stmt]
    return []
