"""Unroll `for` loops over literals and short constant ranges.

Before::

    for item in ("a", "b"):
        draft(item)

After::

    item = 'a'
    draft(item)
    item = 'b'
    draft(item)
"""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count

from kitaru_compiler.ir.build import assign, at, load, rewrite
from kitaru_compiler.ir.exits import escapes, held_exit, mark_exit, own_exits
from kitaru_compiler.ir.known import is_literal
from kitaru_compiler.ir.nodes import Code, FlowIR, Node, Scope, durable_calls
from kitaru_compiler.passes.branches import structure

MAX_COPIES = 64
# After a `break`, each later round is conditional on all rounds before it.
MAX_COPIES_WITH_BREAK = 20
# Maximum number of calls to which unrolling may grow a flow. Hand-written calls may exceed it.
MAX_CALLS = 500
RANGE = frozenset({"range"})


def unroll(ir: FlowIR) -> FlowIR:
    """Unroll loops over literals that contain durable calls, inner loops included."""
    unroller = _Unroller(ir, MAX_CALLS - len(durable_calls(*ir.definition.body)))
    return replace(ir, body=rewrite(ir.body, lambda nodes: unroller.unrolled(nodes, MAX_COPIES)))


@dataclass
class _Unroller:
    """Unrolls up to two limits: copies of one (nested) body, and calls in the whole flow."""

    ir: FlowIR
    room: int
    numbers: count[int] = field(default_factory=count)

    def unrolled(self, nodes: list[Node], budget: int) -> list[Node]:
        result: list[Node] = []
        for node in nodes:
            items = self._items(node.stmt, budget) if isinstance(node, Code) else None
            if items is None:
                result.append(node)
                continue
            assert isinstance(node, Code) and isinstance(node.stmt, ast.For)
            inner = budget // max(len(items), 1)
            rounds = self._rounds(node.stmt, items)
            result += rewrite(rounds, partial(self.unrolled, budget=inner))
        return result

    def _items(self, stmt: ast.stmt, budget: int) -> list[ast.expr] | None:
        """Return the loop's items, or None if it must stay a loop."""
        if not isinstance(stmt, ast.For) or not (calls := len(durable_calls(*stmt.body))):
            return None
        items = loop_items(self.ir, stmt.iter)
        if items is None or obstacle(stmt):
            return None
        most = min(budget, copies(stmt))
        if len(items) > most or calls * (len(items) - 1) > self.room:
            return None
        self.room -= calls * (len(items) - 1)
        return items

    def _rounds(self, loop: ast.For, items: list[ast.expr]) -> list[Node]:
        """Return the rounds: `continue` leaves the scope of its round, `break` that of the loop.

        A loop that contains a scope becomes one scope. If a part of the loop must stay in one
        process, the whole loop stays unchanged.
        """
        before, bodies = _in_order(self.ir, loop, items)
        label = f"loop {next(self.numbers)}"
        nodes = structure(self.ir, before)
        for body in bodies:
            this = f"round {next(self.numbers)}"
            for stmt in own_exits(body):
                mark_exit(stmt, label if isinstance(stmt, ast.Break) else this)
            made = structure(self.ir, body)
            nodes += [Scope(this, made, loop)] if this in escapes(made) else made
        nodes += structure(self.ir, loop.orelse)
        if label in escapes(nodes) or any(isinstance(node, Scope) for node in nodes):
            return [Scope(label, nodes, loop)]
        return nodes


def copies(loop: ast.For) -> int:
    """Return the maximum number of rounds for unrolling a loop."""
    leaves = any(isinstance(stmt, ast.Break) for stmt in own_exits(loop.body))
    return MAX_COPIES_WITH_BREAK if leaves else MAX_COPIES


def obstacle(loop: ast.For) -> tuple[str, str] | None:
    """Return why the rounds of a loop cannot become separate steps, and the fix."""
    held = held_exit(loop.body)
    if held:
        word = type(held).__name__.lower()
        reason = f"its `{word}` goes through a `finally` or an `except … as`, which bind names"
        return reason, f"set a flag there and `{word}` after the `try`"
    submits = any(call.kind == "submit" for call in durable_calls(*loop.body))
    if submits and any(own_exits(loop.body)):
        reason = "`break` or `continue` decides which submitted calls are waited for"
        return reason, "call the checkpoint directly, or submit in a loop without them"
    return None


def _in_order(
    ir: FlowIR, loop: ast.For, items: list[ast.expr]
) -> tuple[list[ast.stmt], list[list[ast.stmt]]]:
    """Return the statements that evaluate all items before the first round, and the rounds."""
    before: list[ast.stmt] = []
    bodies = []
    for item in items:
        if not is_literal(item):
            name = ir.temporary("item")
            before.append(assign(item, name, item))
            item = load(item, name)
        target = at(loop, ast.Assign([copy.deepcopy(loop.target)], item))
        bodies.append([target, *copy.deepcopy(loop.body)])
    return before, bodies


def loop_items(ir: FlowIR, iterable: ast.expr) -> list[ast.expr] | None:
    """Return the items of a list or tuple display, a constant tuple or a constant range, or None.

    A named list may grow while it is iterated, so its loop stays a loop. For a range that is too
    long, one item more than the limit is returned.
    """
    iterable = ir.literal(iterable)
    match iterable:
        case ast.List(elts=elts) | ast.Tuple(elts=elts):
            starred = any(isinstance(item, ast.Starred) for item in elts)
            return None if starred else copy.deepcopy(elts[: MAX_COPIES + 1])
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if 1 <= len(args) <= 3:
            bounds = [_integer(ir.literal(argument)) for argument in args]
            if None in bounds or not ir.is_builtin(name, RANGE) or bounds[2:] == [0]:
                return None
            values = range(*bounds)[: MAX_COPIES + 1]  # type: ignore[arg-type]
            return [at(iterable, ast.Constant(value)) for value in values]
    return None


def _integer(node: ast.expr) -> int | None:
    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))):
            return -value
    return None
