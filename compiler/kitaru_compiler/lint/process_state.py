"""Find lines of a flow that change the state of their process, invisible to other processes."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.values import PROCESS_CHANGED
from kitaru_compiler.lint.body import Body
from kitaru_compiler.lint.call_graph import reached

_CALLS = frozenset(
    {
        "decimal.setcontext",
        "locale.setlocale",
        "numpy.random.seed",
        "os.chdir",
        "os.putenv",
        "os.unsetenv",
        "random.seed",
        "random.setstate",
        "socket.setdefaulttimeout",
        "sys.setrecursionlimit",
        "time.tzset",
        "warnings.filterwarnings",
        "warnings.resetwarnings",
        "warnings.simplefilter",
    }
)
# Containers of the process, and the methods that change them.
_HELD = frozenset({"os.environ", "os.environb", "sys.path", "sys.modules", "warnings.filters"})
_CHANGES = frozenset(
    {"append", "clear", "extend", "insert", "pop", "popitem", "remove", "setdefault", "update"}
)
_CONTEXT = "decimal.getcontext"


def process_changes(body: Body) -> Iterator[Diagnostic]:
    """Find places where a flow's body, or one of its helpers, changes state of the process."""
    why = "a later step or a resume runs in another process, without the change"
    fix = "do it at the top of the module, which every step imports, or in the checkpoint"
    for name, node in _changes(body):
        message = f"`{name}` in the flow's body changes its process: {why}"
        yield body.find(PROCESS_CHANGED, node, message, help=fix)
    told: set[ast.Call] = set()
    for found in reached(body, _changes):
        if found.call not in told:
            told.add(found.call)
            message = f"`{found.name}`, called in the flow's body, changes its process: {why}"
            related = found.related(f"`{found.fact}` is changed here")
            yield body.find(PROCESS_CHANGED, found.call, message, help=fix, related=related)


def _changes(body: Body) -> Iterator[tuple[str, ast.AST]]:
    for node in body.nodes:
        name = _changed(body, node)
        if name:
            yield name, node


def _changed(body: Body, node: ast.AST) -> str:
    match node:
        case ast.Call(func=function) if body.outside(function) in _CALLS:
            return body.outside(function)
        case ast.Call(func=ast.Attribute(value=value, attr=method)) if method in _CHANGES:
            return _held(body, value)
        case ast.Subscript(value=value, ctx=ast.Store() | ast.Del()):
            return _held(body, value) or _context(body, value)
        case ast.Attribute(value=value, attr=attribute, ctx=ast.Store() | ast.Del()):
            name = _context(body, value) or body.outside(value)
            return name if name == _CONTEXT or not name else f"{name}.{attribute}"
    return ""


def _held(body: Body, value: ast.expr) -> str:
    name = body.outside(value)
    return name if name in _HELD else ""


def _context(body: Body, value: ast.expr) -> str:
    """Return the decimal context's name in an expression for it or a part of it."""
    while isinstance(value, ast.Attribute):
        value = value.value
    is_context = isinstance(value, ast.Call) and body.outside(value.func) == _CONTEXT
    return _CONTEXT if is_context else ""
