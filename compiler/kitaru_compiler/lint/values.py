"""Find orders and identities in a flow's body that may differ between processes."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.values import IDENTITY_OF_LITERAL, SET_ORDER
from kitaru_compiler.lint.body import Body

# The result of these functions does not depend on the order of the iterable.
_ORDERLESS = ("all", "any", "frozenset", "len", "max", "min", "set", "sorted", "sum")


def order_of_sets(body: Body) -> Iterator[Diagnostic]:
    """Find loops and list comprehensions over a set literal or a set created in place."""
    orderless = {
        argument
        for node in body.nodes
        if isinstance(node, ast.Call) and body.is_builtin(node.func, *_ORDERLESS)
        for argument in node.args
    }
    for node in body.nodes:
        match node:
            case ast.For(iter=iterable):
                over = [iterable]
            case ast.ListComp(generators=generators) if node not in orderless:
                over = [generator.iter for generator in generators]
            case _:
                continue
        for iterable in over:
            if _is_set(body, iterable):
                message = "the order of a set differs from process to process"
                fix = f"`sorted({_short(iterable)})` has one order everywhere"
                yield body.find(SET_ORDER, iterable, message, "a set", fix)


def _is_set(body: Body, node: ast.expr) -> bool:
    match node:
        case ast.Set(elts=elts):
            # The order of small integers in a set depends only on their values.
            return len(elts) > 1 and not all(_is_int(item) for item in elts)
        case ast.SetComp():
            return True
        case ast.Call(func=function, args=[_]):
            return body.is_builtin(function, "set", "frozenset")
    return False


def _is_int(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, bool)


def _short(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 40 else "…"


def identity_of_literals(body: Body) -> Iterator[Diagnostic]:
    """Find `is` and `is not` with a literal string or number."""
    for node in body.nodes:
        if not isinstance(node, ast.Compare):
            continue
        operands = [node.left, *node.comparators]
        for number, operator in enumerate(node.ops):
            pair = operands[number : number + 2]
            if isinstance(operator, ast.Is | ast.IsNot) and any(map(_is_text_or_number, pair)):
                said, meant = ("is", "==") if isinstance(operator, ast.Is) else ("is not", "!=")
                message = f"`{said}` asks for one object, and equal values need not be one"
                yield body.find(IDENTITY_OF_LITERAL, node, message, help=f"write `{meant}`")


def _is_text_or_number(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    return isinstance(node, ast.Constant) and type(node.value) in (str, bytes, int, float, complex)
