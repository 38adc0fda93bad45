"""Find calls and options that the runtime rejects: in checkpoints, of models, of pickles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import partial

from kitaru_compiler.diagnostics.model import Diagnostic, Rule
from kitaru_compiler.diagnostics.rules.primitives import (
    BLOCKING_IN_ASYNC_FLOW,
    CALL_NEVER_AWAITED,
    CHECKPOINT_AWAITED,
    FLOW_IN_CHECKPOINT,
    MODEL_CALL_REFUSED,
    NESTED_CHECKPOINT,
    PICKLE_NOT_LITERAL,
    WAIT_BLOCKS_TASKS,
    WAIT_IN_CHECKPOINT,
)
from kitaru_compiler.frontend.calls import Calls
from kitaru_compiler.frontend.names import Symbol
from kitaru_compiler.ir.nodes import durable_of
from kitaru_compiler.lint.body import Body
from kitaru_compiler.lint.call_graph import reached

# A rule, and the displayed form of the call.
_Call = tuple[Rule, str]
_WHY = {
    "KIT401": "it suspends or orders the flow",
    "KIT402": "its result would not be recorded on its own",
    "KIT403": "a flow is made of checkpoints",
}
_FIXES = {
    "KIT401": "move it to the flow's body, and pass its value to the checkpoint",
    "KIT402": "call both from the flow, or make the inner one a plain function",
    "KIT403": "call it from the flow",
}
_IN_BODY = ("wait", "wait_event", "sleep", "now", "memory", "inbox", "invoke")
_BLOCKING = ("wait", "wait_event", "sleep", "llm", "memory", "inbox", "invoke")
_TASKS = frozenset(
    f"asyncio.{name}"
    for name in ("gather", "create_task", "ensure_future", "TaskGroup", "as_completed", "to_thread")
)
_LOOPS = frozenset(
    f"asyncio.{name}"
    for name in ("run", "gather", "create_task", "ensure_future", "wait", "wait_for", "shield")
)


def durable_in_checkpoint(body: Body) -> Iterator[Diagnostic]:
    """Find waits, memory, checkpoints and flows that a checkpoint calls."""
    checkpoint = body.definition.name
    for (rule, name), node in _durable(body):
        message = f"{name} is called in checkpoint `{checkpoint}`: {_WHY[rule.code]}"
        yield body.find(rule, node, message, help=_FIXES[rule.code])
    for found in reached(body, _durable):
        rule, name = found.fact
        way = f"through `{found.name}`"
        message = f"{name} is called in checkpoint `{checkpoint}` {way}: {_WHY[rule.code]}"
        related = found.related("called here")
        yield body.find(rule, found.call, message, help=_FIXES[rule.code], related=related)


def _durable(body: Body) -> Iterator[tuple[_Call, ast.AST]]:
    for node, symbol, _ in Calls(body.names, body.source.module).resolved(
        body.source, body.definition
    ):
        if call := _forbidden(symbol):
            yield call, node


def _forbidden(symbol: Symbol) -> _Call | None:
    name = symbol.name.rpartition(".")[2]
    match symbol.kind:
        case "primitive" if symbol.name.removeprefix("aio.").partition(".")[0] in _IN_BODY:
            return WAIT_IN_CHECKPOINT, f"`kitaru.{symbol.name}`"
        case "checkpoint":
            return NESTED_CHECKPOINT, f"checkpoint `{name}`"
        case "flow":
            return FLOW_IN_CHECKPOINT, f"flow `{name}`"
    return None


def blocking_in_async_flow(body: Body) -> Iterator[Diagnostic]:
    """Find primitives that block the event loop of an async flow."""
    own = {id(node) for node in body.nodes}
    makes_tasks = any(map(partial(_makes_tasks, body), ast.walk(body.definition)))
    for node, symbol, _ in Calls(body.names, body.source.module).resolved(
        body.source, body.definition
    ):
        name = symbol.name
        blocks = symbol.kind == "primitive" and name.partition(".")[0] in _BLOCKING
        if blocks and id(node) in own:
            rule = (
                WAIT_BLOCKS_TASKS
                if makes_tasks and name in ("wait", "wait_event", "sleep")
                else BLOCKING_IN_ASYNC_FLOW
            )
            message = f"`kitaru.{name}` blocks the event loop, and all other tasks of the flow"
            fix = f"await it: `await kitaru.aio.{name}(…)`"
            yield body.find(rule, node, message, help=fix, replacement=name)


def _makes_tasks(body: Body, node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Attribute) and node.func.attr in ("create_task", "start_soon"):
        return True
    return body.outside(node.func) in _TASKS


def never_awaited(body: Body) -> Iterator[Diagnostic]:
    """Find calls of async checkpoints and functions whose coroutine nothing can await."""
    for node in body.nodes:
        match node:
            case ast.Expr(value=ast.Call() as call):
                durable = durable_of(call)
                if durable and durable.is_async and durable.kind != "dynamic":
                    message = f"nothing awaits this call of `{durable.name}`, so it never runs"
                    fix = f"`await {ast.unparse(call.func)}(…)`"
                    yield body.find(CALL_NEVER_AWAITED, call, message, help=fix)


def awaited_checkpoints(body: Body) -> Iterator[Diagnostic]:
    """Find calls of checkpoints that are awaited, or passed to an event loop, and are values."""
    coroutines = {
        id(node)
        for function in ast.walk(body.definition)
        if isinstance(function, ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(body.definition):
        match node:
            case ast.Await(value=value):
                given = [value]
            case ast.Call(func=function, args=given) if body.outside(function) in _LOOPS:
                pass
            case _:
                continue
        for call in given:
            durable = durable_of(call)
            if id(call) in coroutines and _is_awaitable(body, call):
                continue
            if durable and durable.kind in ("checkpoint", "submit"):
                gives = "a future" if durable.kind == "submit" else "its result"
                message = f"`{durable.name}` is no coroutine here: calling it gives {gives}"
                fix = "call it without `await` and without an event loop"
                if durable.kind == "submit":
                    fix += ", and ask the future for its `.result()`"
                replacement = "result" if durable.kind == "submit" else ""
                yield body.find(
                    CHECKPOINT_AWAITED, call, message, help=fix, replacement=replacement
                )


def _is_awaitable(body: Body, call: ast.expr) -> bool:
    """Return whether a call in a coroutine returns a future, or the coroutine of a checkpoint."""
    durable = durable_of(call)
    if durable is None or not isinstance(call, ast.Call):
        return False
    symbol = body.symbol(call.func)
    return durable.kind == "submit" or (
        symbol is not None and isinstance(symbol.definition, ast.AsyncFunctionDef)
    )


def model_calls(body: Body) -> Iterator[Diagnostic]:
    """Find model calls with both tools and a schema."""
    calls = Calls(body.names, body.source.module).resolved(body.source, body.definition)
    for node, symbol, method in calls:
        if symbol.kind != "primitive" or symbol.name not in ("llm", "aio.llm") or method:
            continue
        given = {k.arg for k in node.keywords if not _is_none(k.value)}
        if given >= {"tools", "schema"}:
            message = "a model call takes tools or a schema, not both"
            fix = "let the model call tools first; then ask for the shape, with what they returned"
            yield body.find(MODEL_CALL_REFUSED, node, message, help=fix)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def pickle_option(body: Body) -> Iterator[Diagnostic]:
    """Find a `pickle=` that is neither True nor False."""
    for keyword in body.options:
        value = keyword.value
        plain = isinstance(value, ast.Constant) and type(value.value) is bool
        if keyword.arg == "pickle" and not plain:
            message = f"pickle={ast.unparse(value)} does not say whether results may be pickled"
            yield body.find(
                PICKLE_NOT_LITERAL, value, message, help="write pickle=True, or leave it out"
            )
