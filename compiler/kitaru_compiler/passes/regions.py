"""Decides which statements stay in one process with the durable calls inside them, and says why."""

from __future__ import annotations

import ast
from dataclasses import replace

from kitaru_compiler.diagnostics.model import Rule
from kitaru_compiler.diagnostics.rules import (
    kit310,
    kit311,
    kit312,
    kit313,
    kit314,
    kit315,
    kit316,
    kit321,
    kit323,
)
from kitaru_compiler.ir.build import rewrite
from kitaru_compiler.ir.nodes import (
    Code,
    FlowIR,
    Node,
    Region,
    durable_calls,
    durable_of,
)
from kitaru_compiler.passes.unroll import MAX_CALLS, copies, loop_items, obstacle

Why = tuple[Rule, str, str]


def regions(ir: FlowIR) -> FlowIR:
    """Make a region of every statement whose durable calls no single evaluation order can name."""
    return replace(ir, body=rewrite(ir.body, lambda nodes: [_region(ir, node) for node in nodes]))


def _region(ir: FlowIR, node: Node) -> Node:
    if not isinstance(node, Code) or not durable_calls(node.stmt):
        return node
    why = _compound(ir, node.stmt) or _expression(node.stmt)
    if why is None:
        return node
    (rule, reason, fix), place = why
    return Region([node.stmt], durable_calls(node.stmt), rule, reason, place, fix)


def _compound(ir: FlowIR, stmt: ast.stmt) -> tuple[Why, ast.AST] | None:
    """Explain a compound statement, unless only what it evaluates first is durable."""
    why: Why
    match stmt:
        case ast.While():
            why = (kit310.RULE, "`while` depends on results", _CONSTANT_RANGE)
        case ast.For(body=body, orelse=orelse):
            if not durable_calls(*body, *orelse):
                return None
            why = _loop(ir, stmt)
        case ast.Try() | ast.TryStar():
            fix = "keep only what may fail in the `try`, and call other checkpoints outside it"
            why = (kit312.RULE, "`try` must see what its body raises", fix)
        case ast.With(body=body, items=[first, *others]):
            if not durable_calls(*body, *others) and first.context_expr:
                return None
            fix = "open the resource inside the checkpoint that uses it"
            why = (kit313.RULE, "what `with` opens lives in one process", fix)
        case ast.Match(cases=cases):
            if not durable_calls(*cases):
                return None
            fix = "call the checkpoint before the `match`, or in the body of the case"
            why = (kit315.RULE, "a guard calls a checkpoint, and only `match` knows when", fix)
        case (
            ast.If() | ast.Expr() | ast.Assign() | ast.AugAssign() | ast.AnnAssign() | ast.Return()
        ):
            return None
        case ast.Raise():
            return None
        case _:
            kind = _KEYWORDS.get(type(stmt), type(stmt).__name__.lower())
            why = (kit321.RULE, f"a checkpoint is called inside `{kind}`", _VARIABLE)
    return why, stmt


_KEYWORDS: dict[type[ast.stmt], str] = {
    ast.Delete: "del",
    ast.FunctionDef: "def",
    ast.AsyncFunctionDef: "async def",
    ast.ClassDef: "class",
}
_VARIABLE = "assign the checkpoint's result to a variable first"
_CONSTANT_RANGE = "`for _ in range(k)` with a constant k would be cut"


def _loop(ir: FlowIR, stmt: ast.For) -> Why:
    if loop_items(ir, stmt.iter) is None:
        return (kit311.RULE, "`for` runs over a value known only at run time", _CONSTANT_RANGE)
    if why := obstacle(stmt):
        return (kit311.RULE, *why)
    reason = f"unrolled, it would have more than {copies(stmt)} rounds or {MAX_CALLS} calls"
    return (kit311.RULE, reason, "loop inside one checkpoint, or over fewer items")


def _expression(stmt: ast.stmt) -> tuple[Why, ast.AST] | None:
    ordered = [expression for expression in _ordered(stmt) if expression is not None]
    for node in (inner for expression in ordered for inner in ast.walk(expression)):
        call = durable_of(node)
        if call and call.kind == "helper" and not call.callee:
            reason = f"what `{call.name}` is, is known only at run time"
            fix = "define it at the top level of its module, and import it at the top level"
            return (kit316.RULE, reason, fix), node
        if call and call.kind == "dynamic":
            names = ", ".join(call.inside)
            reason = f"`{call.name}(…)` may call a checkpoint ({names}), known only at run time"
            fix = "call each checkpoint by its name in an `if` to give it its own step"
            return (kit323.RULE, reason, fix), node
        match node:
            case ast.GeneratorExp(elt=elt, generators=[first, *others]):
                if durable_calls(elt, first.target, *first.ifs, *others):
                    fix = "write a list: `[…]` instead of `(…)`"
                    return (
                        kit314.RULE,
                        "a generator runs its checkpoints when it is read",
                        fix,
                    ), node
            case ast.Lambda() if durable_calls(node):
                fix = "call the checkpoint from the flow"
                return (kit321.RULE, "a lambda calls a checkpoint whenever it is called", fix), node
            case ast.FormattedValue(format_spec=spec) if spec and durable_calls(spec):
                reason = "a checkpoint is called in a format specification"
                # Where a field of an f-string lies, Python says from 3.12 on only.
                return (kit321.RULE, reason, _VARIABLE), stmt
            case ast.Await() | ast.Yield() | ast.YieldFrom():
                return (kit321.RULE, "`await` and `yield` need one running function", ""), node
            case ast.Tuple() if durable_calls(node) and _slices(*node.elts):
                return (kit321.RULE, "a checkpoint is called beside a slice", _VARIABLE), node
    if len(durable_calls(*ordered)) < len(durable_calls(stmt)):
        return (kit321.RULE, "a checkpoint is called where a value is stored", _VARIABLE), stmt
    return None


def _slices(*nodes: ast.AST) -> bool:
    return any(isinstance(node, ast.Slice) for node in nodes)


def _ordered(stmt: ast.stmt) -> list[ast.expr | None]:
    """Return the expressions that a statement evaluates first, whose order can be written down."""
    match stmt:
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript() as target], value=value):
            return [value] if _slices(*ast.walk(target)) else [value, target]
        case ast.AugAssign(target=target) if _slices(*ast.walk(target)):
            return []
        case ast.Return() | ast.Expr() | ast.Assign() | ast.AugAssign() | ast.AnnAssign():
            return [stmt.value]
        case ast.Raise(exc=exc, cause=cause):
            return [exc, cause]
        case ast.If(test=expression) | ast.For(iter=expression) | ast.Match(subject=expression):
            return [expression]
        case ast.With(items=[first, *_]):
            return [first.context_expr]
    return []
