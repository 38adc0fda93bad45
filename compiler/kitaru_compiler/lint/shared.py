"""Find values that calls share through their process."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache

from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.values import GLOBAL_CHANGED, MUTABLE_DEFAULT
from kitaru_compiler.ir.scope import bound_names
from kitaru_compiler.lint.body import Body
from kitaru_compiler.lint.call_graph import reached

_DISPLAYS: dict[type[ast.expr], str] = {
    ast.List: "list",
    ast.ListComp: "list",
    ast.Dict: "dict",
    ast.DictComp: "dict",
    ast.Set: "set",
    ast.SetComp: "set",
}
_CHANGES = {
    "list": frozenset(["append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse"]),
    "dict": frozenset(["update", "setdefault", "pop", "popitem", "clear"]),
    "set": frozenset(["add", "discard", "remove", "update", "pop", "clear"]),
}


def mutable_defaults(body: Body) -> Iterator[Diagnostic]:
    """Find inputs whose default is a list, dict or set shared by all calls."""
    arguments = body.definition.args
    positional = [*arguments.posonlyargs, *arguments.args]
    named = positional[len(positional) - len(arguments.defaults) :]
    pairs = [*zip(named, arguments.defaults, strict=True)]
    pairs += [(a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d]
    for argument, default in pairs:
        if _is_mutable(body, default):
            message = f"the default of `{argument.arg}` is one object that all calls share"
            fix = f"write `{argument.arg} = None`, and make it in the body; or give it a tuple"
            yield body.find(MUTABLE_DEFAULT, default, message, help=fix)


def _is_mutable(body: Body, default: ast.expr) -> bool:
    if isinstance(default, ast.Call):
        return _builtin_call(body, default) in ("list", "dict", "set", "bytearray")
    return type(default) in _DISPLAYS


def _builtin_call(body: Body, call: ast.Call) -> str:
    """Return the builtin called by an expression outside any function, or an empty string."""
    if not isinstance(call.func, ast.Name):
        return ""
    name = call.func.id
    return name if body.names.is_builtin(body.source, name) else ""


def changed_globals(body: Body) -> Iterator[Diagnostic]:
    """Find places where a checkpoint, or one of its helpers, changes a variable of a module."""
    checkpoint = body.definition.name
    why = "when its result is recorded it does not run again, and the change is missing"
    fix = "return the value, and pass it on to the checkpoint that needs it"
    for name, node in _changes(body):
        message = f"checkpoint `{checkpoint}` changes `{name}` of its module: {why}"
        yield body.find(GLOBAL_CHANGED, node, message, help=fix)
    for found in reached(body, _changes):
        message = f"checkpoint `{checkpoint}` changes `{found.fact}` through `{found.name}`: {why}"
        related = found.related("changed here")
        yield body.find(GLOBAL_CHANGED, found.call, message, help=fix, related=related)


def _changes(body: Body) -> Iterator[tuple[str, ast.AST]]:
    remembered = set(_remembered(body))
    for node in body.nodes:
        name = _bound_global(body, node) or _changed_container(body, node)
        if name and (name, node) not in remembered:
            yield name, node


def _remembered(body: Body) -> Iterator[tuple[str, ast.AST]]:
    """Yield values that are set only if missing: a process without them creates them again."""
    for node in body.nodes:
        match node:
            case ast.If(
                test=ast.Compare(
                    left=ast.Name(id=name), ops=[ast.Is()], comparators=[ast.Constant(value=None)]
                )
                | ast.Compare(ops=[ast.NotIn()], comparators=[ast.Name(id=name)])
                | ast.UnaryOp(op=ast.Not(), operand=ast.Name(id=name))
            ):
                yield from ((name, inner) for stmt in node.body for inner in ast.walk(stmt))


def _bound_global(body: Body, node: ast.AST) -> str:
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()) if name in body.globals:
            return name
    return ""


def _changed_container(body: Body, node: ast.AST) -> str:
    match node:
        case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
            return name if _container(body, name) else ""
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)):
            return name if method in _CHANGES.get(_container(body, name), ()) else ""
    return ""


@lru_cache(maxsize=4)
def bindings(module: ast.Module) -> dict[str, list[ast.stmt]]:
    """Return the statements that bind each name of a module; cached for many checkpoints."""
    found: dict[str, list[ast.stmt]] = {}
    for stmt in module.body:
        for name in bound_names(stmt):
            found.setdefault(name, []).append(stmt)
    return found


def _container(body: Body, name: str) -> str:
    """Return `list`, `dict` or `set` if the module binds `name` to one, exactly once."""
    if body.hides(name):
        return ""
    match bindings(body.source.tree).get(name, []):
        case [ast.Assign(targets=[ast.Name()], value=value) | ast.AnnAssign(value=value)]:
            pass
        case _:
            return ""
    if isinstance(value, ast.Call):
        made = _builtin_call(body, value)
        return made if made in _CHANGES else ""
    return _DISPLAYS.get(type(value), "") if value else ""
