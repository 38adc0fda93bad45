"""Keep statements that cannot be cut in one process with their durable calls, with the reason.

Before::

    while not check(topic):
        topic = draft(topic)
    return topic

After::

    # region: `while` depends on results
    while not check(topic):
        topic = draft(topic)
    return topic
"""

from __future__ import annotations

import ast
from dataclasses import replace

from kitaru_compiler.diagnostics.model import Rule
from kitaru_compiler.diagnostics.rules.cutting import (
    COMPREHENSION_STAYS_TOGETHER,
    DYNAMIC_DISPATCH,
    EXPRESSION_STAYS_TOGETHER,
    FOR_STAYS_TOGETHER,
    HELPER_STAYS_TOGETHER,
    MATCH_STAYS_TOGETHER,
    TRY_STAYS_TOGETHER,
    WHILE_STAYS_TOGETHER,
    WITH_STAYS_TOGETHER,
)
from kitaru_compiler.ir.build import assign, at, load, rewrite
from kitaru_compiler.ir.nodes import (
    Code,
    FlowIR,
    If,
    Node,
    Region,
    durable_calls,
    durable_of,
)
from kitaru_compiler.passes.handlers import why_together
from kitaru_compiler.passes.tasks import why_deferred
from kitaru_compiler.passes.unroll import MAX_CALLS, copies, loop_items, obstacle

Why = tuple[Rule, str, str]


def regions(ir: FlowIR) -> FlowIR:
    """Make a region of every statement whose durable calls have no fixed evaluation order."""
    return replace(
        ir, body=rewrite(ir.body, lambda nodes: [n for node in nodes for n in _kept(ir, node)])
    )


def _kept(ir: FlowIR, node: Node) -> list[Node]:
    """Return the nodes that replace `node`, with regions for calls without a fixed order."""
    match node:
        case Code(stmt) if durable_calls(stmt):
            why = _compound(ir, stmt) or _expression(stmt)
            return [_region(stmt, why)] if why else [node]
        case If(test=test, source=source) if durable_calls(test):
            why = _unordered([test], source)
            return _test_first(ir, node, why) if why else [node]
    return [node]


def _region(stmt: ast.stmt, why: tuple[Why, ast.AST]) -> Region:
    (rule, reason, fix), place = why
    return Region([stmt], durable_calls(stmt), rule, reason, place, fix)


def _test_first(ir: FlowIR, node: If, why: tuple[Why, ast.AST]) -> list[Node]:
    """Keep only the test of a branch in one process, and cut its arms.

        if any(good(x) for x in xs):        test_1 = not not any(good(x) for x in xs)
            publish(1)                      if test_1:
                                                publish(1)

    Only the boolean is stored, so it can cross every cut and is computed once.
    """
    name = ir.temporary("test")
    test = node.test
    truth = at(test, ast.UnaryOp(ast.Not(), ast.UnaryOp(ast.Not(), test)))
    region = _region(assign(test, name, truth), why)
    return [region, If(load(test, name), node.body, node.orelse, node.source)]


def _compound(ir: FlowIR, stmt: ast.stmt) -> tuple[Why, ast.AST] | None:
    """Explain a compound statement, unless only its first evaluated expressions are durable."""
    why: Why
    match stmt:
        case ast.While():
            why = (WHILE_STAYS_TOGETHER, "`while` depends on results", _CONSTANT_RANGE)
        case ast.For(body=body, orelse=orelse):
            if not durable_calls(*body, *orelse):
                return None
            why = _loop(ir, stmt)
        case ast.Try() if durable_calls(*stmt.handlers, *stmt.orelse) and (
            reason := why_together(ir, stmt)
        ):
            why = (TRY_STAYS_TOGETHER, *reason)
        case ast.Try() | ast.TryStar():
            fix = "keep only what may fail in the `try`, and call other checkpoints outside it"
            why = (TRY_STAYS_TOGETHER, "`try` must see what its body raises", fix)
        case ast.With(body=body, items=[first, *others]):
            if not durable_calls(*body, *others) and first.context_expr:
                return None
            fix = "open the resource inside the checkpoint that uses it"
            why = (WITH_STAYS_TOGETHER, "what `with` opens lives in one process", fix)
        case ast.AsyncWith():
            fix = "open it inside the checkpoint that uses it"
            why = (WITH_STAYS_TOGETHER, "what `async with` opens lives in one process", fix)
        case ast.AsyncFor():
            fix = "read it in a checkpoint that returns a list"
            why = (FOR_STAYS_TOGETHER, "`async for` reads what lives in one process", fix)
        case ast.Match(cases=cases):
            if not durable_calls(*cases):
                return None
            fix = "call the checkpoint before the `match`, or in the body of the case"
            why = (
                MATCH_STAYS_TOGETHER,
                "a guard calls a checkpoint, and only `match` knows when",
                fix,
            )
        case (
            ast.If() | ast.Expr() | ast.Assign() | ast.AugAssign() | ast.AnnAssign() | ast.Return()
        ):
            return None
        case ast.Raise():
            return None
        case _:
            kind = _KEYWORDS.get(type(stmt), type(stmt).__name__.lower())
            why = (EXPRESSION_STAYS_TOGETHER, f"a checkpoint is called inside `{kind}`", _VARIABLE)
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
        return (
            FOR_STAYS_TOGETHER,
            "`for` runs over a value known only at run time",
            _CONSTANT_RANGE,
        )
    if why := obstacle(stmt):
        return (FOR_STAYS_TOGETHER, *why)
    reason = f"unrolled, it would have more than {copies(stmt)} rounds or {MAX_CALLS} calls"
    return (FOR_STAYS_TOGETHER, reason, "loop inside one checkpoint, or over fewer items")


def _expression(stmt: ast.stmt) -> tuple[Why, ast.AST] | None:
    """Explain a statement with calls outside of expressions with a fixed order."""
    ordered = [expression for expression in _ordered(stmt) if expression is not None]
    if found := _unordered(ordered, stmt):
        return found
    if len(durable_calls(*ordered)) < len(durable_calls(stmt)):
        return (
            EXPRESSION_STAYS_TOGETHER,
            "a checkpoint is called where a value is stored",
            _VARIABLE,
        ), stmt
    return None


def _unordered(ordered: list[ast.expr], stmt: ast.stmt) -> tuple[Why, ast.AST] | None:
    """Explain expressions of `stmt` whose calls run lazily or are known only at run time."""
    for node in (inner for expression in ordered for inner in ast.walk(expression)):
        call = durable_of(node)
        if call and call.kind == "helper" and not call.callee:
            reason = f"what `{call.name}` is, is known only at run time"
            fix = "define it at the top level of its module, and import it at the top level"
            if call.doubt:
                reason = f"`{call.name}` may be replaced by {call.doubt}"
                fix = "set the attributes of an object, or the items of a dict, instead"
            return (HELPER_STAYS_TOGETHER, reason, fix), node
        if call and call.is_deferred:
            return why_deferred(call), node
        if call and call.kind == "dynamic":
            names = ", ".join(call.inside)
            reason = f"`{call.name}(…)` may call a checkpoint ({names}), known only at run time"
            fix = "call each checkpoint by its name in an `if` to give it its own step"
            return (DYNAMIC_DISPATCH, reason, fix), node
        match node:
            case ast.GeneratorExp(elt=elt, generators=[first, *others]):
                if durable_calls(elt, first.target, *first.ifs, *others):
                    fix = "write a list: `[…]` instead of `(…)`"
                    return (
                        COMPREHENSION_STAYS_TOGETHER,
                        "a generator runs its checkpoints when it is read",
                        fix,
                    ), node
            case ast.Lambda() if durable_calls(node):
                fix = "call the checkpoint from the flow"
                return (
                    EXPRESSION_STAYS_TOGETHER,
                    "a lambda calls a checkpoint whenever it is called",
                    fix,
                ), node
            case ast.FormattedValue(format_spec=spec) if spec and durable_calls(spec):
                reason = "a checkpoint is called in a format specification"
                # Python reports the position of an f-string's field only from 3.12 on.
                return (EXPRESSION_STAYS_TOGETHER, reason, _VARIABLE), stmt
            case ast.Yield() | ast.YieldFrom():
                return (EXPRESSION_STAYS_TOGETHER, "`yield` needs one running function", ""), node
            case ast.Tuple() if durable_calls(node) and _slices(*node.elts):
                return (
                    EXPRESSION_STAYS_TOGETHER,
                    "a checkpoint is called beside a slice",
                    _VARIABLE,
                ), node
    return None


def _slices(*nodes: ast.AST) -> bool:
    return any(isinstance(node, ast.Slice) for node in nodes)


def _ordered(stmt: ast.stmt) -> list[ast.expr | None]:
    """Return the first evaluated expressions of a statement, which have a fixed order."""
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
