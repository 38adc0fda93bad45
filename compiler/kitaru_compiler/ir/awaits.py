"""Represent `await` on the call that it waits for, so that no pass needs to know of it.

An awaited durable call is a call like any other: its result is there before the next statement.
`await` therefore moves onto the call while the passes run, and codegen writes it out again:

    text = await draft(topic)     Assign(text, Await(Call(draft)))  <->  Assign(text, Call(draft))

A call whose coroutine is not awaited where it stands is not made there: it runs when, and if, the
coroutine is awaited. It is marked as deferred, and its statement stays together with those that use
the coroutine.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable
from dataclasses import replace

from kitaru_compiler.ir.nodes import durable_of, mark_durable

_PLACE = ("lineno", "col_offset", "end_lineno", "end_col_offset")


def awaited(stmts: list[ast.stmt], from_asyncio: Callable[[ast.expr], str]) -> list[ast.stmt]:
    """Return copies of an async function's statements with `await` on its durable calls.

    `from_asyncio` returns the name of a callee in asyncio, or an empty string.
    """
    transformer = _OntoCalls(from_asyncio)
    changed: list[ast.stmt] = []
    for stmt in copy.deepcopy(stmts):
        found = transformer.visit(stmt)
        assert isinstance(found, ast.stmt)
        changed.append(found)
    return changed


def write_awaits(stmt: ast.stmt) -> None:
    """Write `await` before the calls of a statement again."""
    _BeforeCalls().visit(stmt)


def asyncio_name(node: ast.AST) -> str:
    """Return the name in asyncio of the callee of a call, empty for any other node."""
    return getattr(node, "asyncio_name", "")


class _OntoCalls(ast.NodeTransformer):
    def __init__(self, from_asyncio: Callable[[ast.expr], str]) -> None:
        self._from_asyncio = from_asyncio

    def visit_Await(self, node: ast.Await) -> ast.expr:
        call = durable_of(node.value)
        # A called value may be a plain checkpoint as well.
        if call is None or not call.is_async or call.kind == "dynamic":
            self.generic_visit(node)
            return node
        made = node.value
        self.generic_visit(made)
        made.awaited = [getattr(made, name) for name in _PLACE]  # type: ignore[attr-defined]
        return ast.copy_location(made, node)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        call = durable_of(node)
        if call is not None and (call.is_async or call.makes_coroutines):
            mark_durable(node, replace(call, is_deferred=True, choices=()))
        elif call is None and (name := self._from_asyncio(node.func)):
            node.asyncio_name = name  # type: ignore[attr-defined]
        return node


class _BeforeCalls(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.expr:
        place = getattr(node, "awaited", None)
        self.generic_visit(node)
        if place is None:
            return node
        call = copy.copy(node)
        del call.awaited  # type: ignore[attr-defined]
        for name, value in zip(_PLACE, place, strict=True):
            setattr(call, name, value)
        return ast.copy_location(ast.Await(call), node)
