"""Define local functions again where their calls stay together with other code.

A local function that is only called is inlined like a helper of the module, and its definition is
left out. A region calls it as Python does, so the region begins with the definition.

Before::

    def ask(question):
        return draft(question + topic)
    text = ask("why?")
    while not check(text):
        text = ask(text)
    return text

After::

    text = ask('why?')  # step
    # region: `while` depends on results
    def ask(question):
        return draft(question + topic)
    while not check(text):
        text = ask(text)
    return text
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace

from kitaru_compiler.ir.build import rewrite
from kitaru_compiler.ir.nodes import (
    Code,
    Durable,
    Fan,
    FlowIR,
    If,
    Node,
    Region,
    Return,
    durable_of,
)
from kitaru_compiler.ir.walk import walk
from kitaru_compiler.passes.closures import called_now


class LocalFunctionStays(Exception):
    """A local function must stay where it is defined, because not every call can be inlined."""

    def __init__(self, callee: str) -> None:
        super().__init__(callee)
        self.callee = callee


def local_functions(ir: FlowIR) -> FlowIR:
    """Let each region begin with the definitions of the inlined functions that it calls."""
    if not ir.inlined and not ir.outer:
        return ir
    return replace(ir, body=rewrite(ir.body, lambda nodes: [_with_functions(ir, n) for n in nodes]))


def stay(ir: FlowIR) -> None:
    """Raise LocalFunctionStays for each function whose definition a flow that stays whole needs."""
    for callee in _callees(ir.definition):
        raise LocalFunctionStays(callee)


def _with_functions(ir: FlowIR, node: Node) -> Node:
    left = {callee for part in _called_as_python_does(node) for callee in _callees(part)}
    if not left:
        return node
    own = {_callee(ir, name): stmt for name, stmt in ir.inlined.items()}
    if not isinstance(node, Region) or not left <= own.keys() or _called_later(ir, node):
        raise LocalFunctionStays(min(left))
    before = 0
    while before < len(left):
        before = len(left)
        left |= {inner for callee in left for inner in _callees(own[callee])}
    return replace(node, definitions=tuple(s for callee, s in own.items() if callee in left))


def _called_later(ir: FlowIR, region: Region) -> bool:
    """Return whether a region leaves behind what calls a local function, such as a generator.

    texts = (ask(question) for question in questions)
    """
    for stmt in region.stmts:
        calls = [n for n in walk(stmt) if isinstance(n, ast.Call)]
        local = {n.func for n in calls if (call := durable_of(n)) and call.is_local}
        if not local <= called_now(stmt, ir):
            return True
    return False


def _callee(ir: FlowIR, name: str) -> str:
    return f"{ir.source.module}.{ir.function}.<locals>.{name}"


def _callees(node: ast.AST) -> Iterator[str]:
    """Yield the local functions that code calls, as absolute names."""
    for inner in walk(node):
        call = durable_of(inner)
        if call and call.is_local:
            yield call.callee


def _called_as_python_does(node: Node) -> list[ast.AST]:
    """Return the code of a node in normal form whose calls are not inlined."""
    match node:
        case If(test):
            return [test]
        case Region(stmts) | Fan(stmts):
            return [*stmts]
        case Durable(stmt, call) if call.is_local:
            value = stmt.value  # type: ignore[attr-defined]
            return [*value.args, *(k.value for k in value.keywords), *getattr(stmt, "targets", [])]
        case Code(stmt) | Durable(stmt) | Return(stmt):
            return [stmt]
    return []
