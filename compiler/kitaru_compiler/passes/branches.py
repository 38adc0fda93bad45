"""Turn `if` and `match` statements with durable calls inside into branches of the plan.

Before::

    if topic:
        notes = research(topic)
    return topic

After::

    if topic:  # branch
        notes = research(topic)
    return topic

Before::

    try:
        notes = research(topic)
        text = draft(notes)
    except ValueError:
        return ""
    return text

After::

    try:
        notes = research(topic)
    except ValueError:
        return ''
    try:
        text = draft(notes)
    except ValueError:
        return ''
    return text
"""

from __future__ import annotations

import ast
from dataclasses import replace

from kitaru_compiler.ir.build import assign, at, load
from kitaru_compiler.ir.exits import exit_of
from kitaru_compiler.ir.nodes import Code, Exit, FlowIR, If, Node, Return, durable_calls
from kitaru_compiler.passes.handlers import calls_follow, parts_apart


def branches(ir: FlowIR) -> FlowIR:
    """Convert the body to nodes; statements without durable calls stay statements."""
    return replace(ir, body=structure(ir, [stmt for node in ir.body for stmt in _stmts(node)]))


def structure(ir: FlowIR, stmts: list[ast.stmt]) -> list[Node]:
    """Convert `stmts` to nodes, up to the first that surely ends the flow or leaves its scope."""
    nodes: list[Node] = []
    for stmt in stmts:
        match stmt:
            case ast.If(test=test, body=body, orelse=orelse) if durable_calls(*body, *orelse):
                nodes.append(If(test, structure(ir, body), structure(ir, orelse), stmt))
            case ast.Match() if _chooses(stmt):
                nodes += structure(ir, _chosen(ir, stmt))
            case ast.Try() if (parts := calls_follow(ir, stmt)) is not None:
                nodes += structure(ir, parts)
            case ast.Try() if (parts := parts_apart(ir, stmt)) is not None:
                nodes += structure(ir, parts)
            case ast.Return() if not durable_calls(stmt):
                nodes.append(Return(stmt))
            case ast.Break() | ast.Continue():
                nodes.append(Exit(exit_of(stmt), stmt))
            case _:
                nodes.append(Code(stmt))
        if isinstance(stmt, ast.Return | ast.Raise | ast.Break | ast.Continue):
            break
    return nodes


def _chooses(stmt: ast.Match) -> bool:
    """Return whether durable calls occur only in the bodies of the cases, and not in guards."""
    guards = [case.guard for case in stmt.cases if case.guard]
    return not durable_calls(*guards) and bool(durable_calls(*stmt.cases))


def _chosen(ir: FlowIR, stmt: ast.Match) -> list[ast.stmt]:
    """Return a `match` that binds names, evaluates guards and stores the case's number; then `if`s.

    The bodies run after the `match`, exactly as in Python: no other code runs in between.
    """
    name = ir.temporary("case")
    select = at(stmt, ast.Match(stmt.subject, []))
    rest: list[ast.stmt] = []
    for number, case in reversed(list(enumerate(stmt.cases, 1))):
        place = case.pattern
        keep = assign(place, name, at(place, ast.Constant(number)))
        select.cases.insert(0, ast.match_case(case.pattern, case.guard, [keep]))
        if number == len(stmt.cases) and _always_matches(case):
            rest = case.body
            continue
        test = at(place, ast.Compare(load(place, name), [ast.Eq()], [ast.Constant(number)]))
        rest = [at(place, ast.If(test, case.body, rest))]
    if not _always_matches(stmt.cases[-1]):
        nothing = assign(stmt.subject, name, at(stmt.subject, ast.Constant(0)))
        anything = at(stmt.subject, ast.MatchAs())
        select.cases.append(ast.match_case(anything, None, [nothing]))
    return [select, *rest]


def _always_matches(case: ast.match_case) -> bool:
    return case.guard is None and _irrefutable(case.pattern)


def _irrefutable(pattern: ast.pattern | None) -> bool:
    """Return whether a case is irrefutable: Python allows no case after it."""
    match pattern:
        case None:
            return True
        case ast.MatchAs(pattern=inner):
            return _irrefutable(inner)
        case ast.MatchOr(patterns=patterns):
            return _irrefutable(patterns[-1])
    return False


def _stmts(node: Node) -> list[ast.stmt]:
    assert isinstance(node, Code)
    return [node.stmt]
