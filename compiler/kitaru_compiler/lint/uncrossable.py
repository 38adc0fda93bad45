"""Find local variables whose values cannot exist in another process."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import Any

from kitaru.wire.plan import Block, Span, Step
from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.values import VALUE_CANNOT_CROSS
from kitaru_compiler.frontend.flows import FlowDefinition
from kitaru_compiler.frontend.names import Names
from kitaru_compiler.ir.scope import bound_names
from kitaru_compiler.lint.body import Bodies, Body

_ITERATORS = ("iter", "zip", "map", "filter", "enumerate", "reversed")
_LISTED = "make it a list: `list({})`"
_OPENED = "open it in the checkpoint that reads it, or close it before the next checkpoint"
_MADE = "make it in the checkpoint that uses it"
_KINDS = {
    **dict.fromkeys(["io.open", "io.StringIO", "io.BytesIO", "socket.socket"], _OPENED),
    **dict.fromkeys(["tempfile.TemporaryFile", "tempfile.NamedTemporaryFile"], _OPENED),
    **dict.fromkeys(["tempfile.TemporaryDirectory", "sqlite3.connect"], _OPENED),
    **dict.fromkeys(["subprocess.Popen", "asyncio.new_event_loop"], _OPENED),
    **dict.fromkeys(["itertools.chain", "itertools.count", "itertools.cycle"], _LISTED),
    **dict.fromkeys(["itertools.product", "itertools.islice", "itertools.groupby"], _LISTED),
    **{
        f"threading.{name}": _MADE
        for name in ("Lock", "RLock", "Event", "Condition", "Semaphore", "Thread", "local")
    },
    **dict.fromkeys(["queue.Queue", "queue.SimpleQueue", "random.Random"], _MADE),
    **dict.fromkeys(["concurrent.futures.ThreadPoolExecutor", "functools.partial"], _MADE),
    **dict.fromkeys(["re.compile", "logging.getLogger"], "bind it at module level"),
    "contextvars.ContextVar": "bind it at module level",
    **dict.fromkeys(["requests.Session", "httpx.Client", "openai.OpenAI"], _MADE),
    **dict.fromkeys(["anthropic.Anthropic", "boto3.client", "boto3.resource"], _MADE),
}


def crossing(
    flow: FlowDefinition, names: Names, blocks: Iterable[Block], steps: Iterable[Step]
) -> Iterator[Diagnostic]:
    """Find variables used after a cut that contain an open file, a lock, an iterator or the like.

    The cut is left out at run time. After a resume the value is created again.
    """
    body = Bodies(names).of(flow.source, flow.definition)
    boundaries = _boundaries(list(blocks), list(steps))
    for name, value, fix in _held(body):
        if name in boundaries:
            what, span = boundaries[name]
            message = f"`{name}` cannot cross to {what}"
            why = "that cut is left out, and a resume makes the value again"
            related = ((span, f"`{name}` is needed from here on"),)
            yield body.find(
                VALUE_CANNOT_CROSS, value, f"{message}: {why}", f"`{name}`", fix, related
            )


def _boundaries(blocks: list[Block], steps: list[Step]) -> dict[str, tuple[str, Span]]:
    """Return for each variable the first step or wait to which it must cross."""
    entered = {step.entry: f"the step `{step.name}`" for step in steps[1:]}
    entered |= {b.name: f"the wait `{b.name}`" for b in blocks if b.kind == "wait"}
    found: dict[str, tuple[str, Span]] = {}
    for block in blocks:
        for name in block.live if block.name in entered else ():
            found.setdefault(name, (entered[block.name], block.span))
    return found


def _held(body: Body) -> Iterator[tuple[str, ast.expr, str]]:
    """Yield variables bound once, to a value that cannot be recorded, with a fix."""
    bound: dict[str, int] = {}
    for name in (n for stmt in body.definition.body for n in _bindings(stmt)):
        bound[name] = bound.get(name, 0) + 1
    for node in body.nodes:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                if bound[name] == 1 and (fix := _fix(body, value)):
                    yield name, value, fix


def _fix(body: Body, value: ast.expr) -> str:
    match value:
        case ast.GeneratorExp():
            return "make it a list: `[…]` instead of `(…)`"
        case ast.Call(func=function):
            if body.is_builtin(function, *_ITERATORS):
                return _LISTED.format(_short(value))
            if body.is_builtin(function, "open"):
                return _OPENED
            return _KINDS.get(body.outside(function), "").format(_short(value))
    return ""


def _bindings(stmt: ast.stmt) -> Iterator[str]:
    """Yield every name that a statement binds, once per binding."""
    for node in ast.walk(stmt):
        parts: tuple[Any, ...] = ()
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                parts = (name,)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                parts = (node.name,)
            case ast.Import() | ast.ImportFrom() | ast.pattern() | ast.ExceptHandler(name=str()):
                parts = tuple(bound_names(node))
            case ast.Nonlocal(names=names) | ast.Global(names=names):
                parts = tuple(names)
        yield from parts


def _short(value: ast.expr) -> str:
    text = ast.unparse(value)
    return text if len(text) <= 40 else "…"
