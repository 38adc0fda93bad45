"""Find checkpoints that change or return an argument, although values are copies."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from kitaru.wire.plan import Span
from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.values import ARGUMENT_CHANGED, ARGUMENT_RETURNED
from kitaru_compiler.ir.scope import argument_names, bound_names
from kitaru_compiler.lint.body import Body

_CONTAINERS = {
    "list": "list", "List": "list", "MutableSequence": "list",
    "dict": "dict", "Dict": "dict", "MutableMapping": "dict", "defaultdict": "dict",
    "set": "set", "Set": "set", "MutableSet": "set",
}  # fmt: skip
CHANGES = {
    "list": frozenset(["append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse"]),
    "dict": frozenset(["update", "setdefault", "pop", "popitem", "clear"]),
    "set": frozenset(["add", "discard", "remove", "update", "pop", "clear"]),
}
# Methods that only containers have, whatever the annotation.
_TELLING = frozenset(["append", "extend", "insert", "setdefault", "popitem"])


def changed_arguments(body: Body) -> Iterator[Diagnostic]:
    """Find places where a checkpoint changes an argument."""
    told: set[str] = set()
    for name, node in _changes(body):
        if name not in told:
            told.add(name)
            message = (
                f"checkpoint `{body.definition.name}` changes its argument `{name}`: the caller's "
                "own must stay as it is, so the checkpoint fails"
            )
            fix = f"`{name} = {_copy(_kinds(body).get(name, ''), name)}` first, and return it"
            related = ((_place(body, name), "given here"),)
            yield body.find(ARGUMENT_CHANGED, node, message, "changed here", fix, related)


def returned_arguments(body: Body) -> Iterator[Diagnostic]:
    """Find places where a checkpoint returns the same list, dict or set that it received."""
    kinds = _kinds(body)
    changed = {name for name, _ in _changes(body)}
    for node in body.nodes:
        match node:
            case ast.Return(value=ast.Name(id=name) as value) if name in kinds.keys() - changed:
                message = (
                    f"checkpoint `{body.definition.name}` returns its argument `{name}`: the "
                    "caller gets a copy, and what is done to one is not done to the other"
                )
                fix = f"return `{_copy(kinds[name], name)}` to say so, or nothing"
                related = ((_place(body, name), "given here"),)
                yield body.find(
                    ARGUMENT_RETURNED, value, message, "the argument", fix, related, kinds[name]
                )


def _changes(body: Body) -> Iterator[tuple[str, ast.AST]]:
    kept, kinds = _kept(body), _kinds(body)
    for node in body.nodes:
        match node:
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
                pass
            case ast.Attribute(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
                pass
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)):
                if method not in CHANGES.get(kinds.get(name, ""), _TELLING):
                    continue
            case ast.AugAssign(target=ast.Name(id=name)):
                if name not in kinds:
                    continue
            case _:
                continue
        if name in kept:
            yield name, node


def _kept(body: Body) -> frozenset[str]:
    """Return the parameters that the function never rebinds, except by `+=` and the like."""
    in_place = {id(node.target) for node in body.nodes if isinstance(node, ast.AugAssign)}
    rebound = {
        node.id
        for node in body.nodes
        if isinstance(node, ast.Name)
        and not isinstance(node.ctx, ast.Load)
        and id(node) not in in_place
    }
    definitions = (n for n in body.nodes if not isinstance(n, ast.Name | ast.expr | ast.AugAssign))
    others = {name for node in definitions for name in _names_bound_otherwise(node)}
    return frozenset(set(argument_names(body.definition.args)) - rebound - others)


def _names_bound_otherwise(node: ast.AST) -> set[str]:
    match node:
        case ast.ExceptHandler(name=str(name)):
            return {name}
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {node.name}
        case ast.Import() | ast.ImportFrom() | ast.match_case():
            return bound_names(node)
    return set()


def _kinds(body: Body) -> dict[str, str]:
    """Return `list`, `dict` or `set` for the parameters annotated as one and never rebound."""
    arguments = body.definition.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    kept = _kept(body)
    named = ((a.arg, _container(a.annotation)) for a in every if a.arg in kept)
    return {name: kind for name, kind in named if kind}


def _container(annotation: ast.expr | None) -> str:
    match annotation:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return _CONTAINERS.get(name, "")
        case ast.Subscript(value=value):
            return _container(value)
    return ""


def _copy(kind: str, name: str) -> str:
    return f"{kind}({name})" if kind else f"copy.copy({name})"


def _place(body: Body, name: str) -> Span:
    arguments = body.definition.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [extra for extra in (arguments.vararg, arguments.kwarg) if extra]
    return next(body.source.span(a) for a in every if a.arg == name)
