"""The variables that code reads, binds and deletes, including nested scopes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from kitaru_compiler.ir.walk import children, walk

Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_DEFINITIONS = frozenset({ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef})
# The nodes that bind names, and comprehensions, which hide the names that they bind.
_BINDING = frozenset({
    ast.Name, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler, ast.MatchAs,
    ast.MatchStar, ast.MatchMapping, ast.Import, ast.ImportFrom,
    ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp,
})  # fmt: skip


class Bound(NamedTuple):
    """The bindings of a scope: `names` has the imported name, or "", of each binding of a name.

    `outside` are the names that the scope binds in the module through a `global` statement.
    """

    names: dict[str, list[str]]
    outside: list[str]


def argument_names(arguments: ast.arguments) -> list[str]:
    """Return the names a function's parameters bind, in order."""
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [extra for extra in (arguments.vararg, arguments.kwarg) if extra]
    return [argument.arg for argument in every]


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield `node` and the nodes evaluated in its own scope, without bodies of nested functions.

    Comprehensions count as part of the enclosing scope: they run at once, and a walrus binds
    outside of them.
    """
    pending = [node]
    while pending:
        node = pending.pop()
        yield node
        later = node.__class__ in _DEFINITIONS
        inner = definition_time(node) if later else children(node)  # type: ignore[arg-type]
        pending += reversed(inner)


def own_statements(stmt: ast.stmt) -> Iterator[ast.stmt]:
    """Yield `stmt` and its inner statements, without those of nested functions and classes."""
    pending = [stmt]
    while pending:
        stmt = pending.pop()
        yield stmt
        if stmt.__class__ not in _DEFINITIONS:
            pending += reversed([*inner_statements(stmt)])


def inner_statements(stmt: ast.stmt) -> Iterator[ast.stmt]:
    """Yield the statements directly inside a compound statement."""
    for name in ("body", "handlers", "cases", "orelse", "finalbody"):
        for child in getattr(stmt, name, ()):
            if isinstance(child, ast.stmt):
                yield child
            else:
                yield from child.body


def definition_time(node: Function | ast.ClassDef) -> list[ast.expr]:
    """Return the expressions evaluated by a definition itself: decorators, defaults, bases."""
    if isinstance(node, ast.ClassDef):
        return [*node.decorator_list, *node.bases, *(k.value for k in node.keywords)]
    evaluated: list[ast.expr] = [*node.args.defaults, *(d for d in node.args.kw_defaults if d)]
    if not isinstance(node, ast.Lambda):
        evaluated[:0] = node.decorator_list
    return evaluated


def bound_names(node: ast.AST) -> set[str]:
    """Return the names that `node` may bind in its scope."""
    names: set[str] = set()
    own = [child for child in own_nodes(node) if child.__class__ in _BINDING]
    hidden = _comprehension_targets(own)
    for child in own:
        match child:
            case ast.Name(id=name, ctx=ast.Store()) if child not in hidden:
                names.add(name)
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                names.add(name)
            case ast.ExceptHandler(name=str(name)):
                names.add(name)
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                names.add(name)
            case ast.MatchMapping(rest=str(name)):
                names.add(name)
            case ast.Import() | ast.ImportFrom():
                names.update((a.asname or a.name.split(".")[0]) for a in child.names)
    return names


def bound_in(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Return the names that a function binds itself, its parameters included."""
    return set(argument_names(function.args)).union(*map(bound_names, function.body))


def certainly_bound(stmt: ast.stmt) -> set[str]:
    """Return the names that a simple statement or a definition binds whenever it runs.

    A walrus does not count, because it may be short-circuited, as in `a and (b := c)`.
    """
    match stmt:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Assign(targets=targets):
            return {name for target in targets for name in target_names(target)}
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target, value=ast.expr()):
            return target_names(target)
        case ast.Import() | ast.ImportFrom():
            return bound_names(stmt)
    return set()


def target_names(target: ast.expr) -> set[str]:
    """Return the names that assigning to `target` binds."""
    match target:
        case ast.Name(id=name):
            return {name}
        case ast.Tuple(elts=elts) | ast.List(elts=elts):
            return {name for item in elts for name in target_names(item)}
        case ast.Starred(value=value):
            return target_names(value)
    return set()


def deleted_names(node: ast.AST) -> set[str]:
    """Return the names that `node` may unbind, including `except E as e`."""
    names: set[str] = set()
    for child in own_nodes(node):
        match child:
            case ast.Name(id=name, ctx=ast.Del()):
                names.add(name)
            case ast.ExceptHandler(name=str(name)):
                names.add(name)
    return names


def _comprehension_targets(nodes: list[ast.AST]) -> set[ast.AST]:
    """Return the Name nodes that comprehension `for` clauses bind in their own scope."""
    return {
        name
        for child in nodes
        if isinstance(child, Comprehension)
        for generator in child.generators
        for name in walk(generator.target)
    }


def read_names(node: ast.AST) -> set[str]:
    """Return the names of its scope that `node` reads, needs bound, or may capture."""
    names: set[str] = set()
    _read(node, frozenset(), names)
    return names


def captured_names(node: Function | ast.ClassDef | ast.GeneratorExp) -> set[str]:
    """Return the enclosing scope's names that the closure at `node` reads when it runs later."""
    names: set[str] = set()
    match node:
        case ast.GeneratorExp():
            _read_comprehension(node, frozenset(), names, first=False)
        case ast.ClassDef():
            for stmt in node.body:
                _read(stmt, frozenset(), names)
        case _:
            _read_function(node, frozenset(), names)
    return names


def _read(node: ast.AST, hidden: frozenset[str], names: set[str]) -> None:
    match node:
        case ast.Name(id=name):
            if not isinstance(node.ctx, ast.Store) and name not in hidden:
                names.add(name)
        case ast.AugAssign(target=ast.Name(id=name)):
            if name not in hidden:
                names.add(name)
            _read(node.value, hidden, names)
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            _read_comprehension(node, hidden, names)
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
            for expression in definition_time(node):
                _read(expression, hidden, names)
            _read_function(node, hidden, names)
        case ast.ClassDef():
            # A class body reads unbound names from the enclosing scope, and may bind names late.
            # All names that it mentions therefore count.
            for child in children(node):
                _read(child, hidden, names)
        case _:
            for child in children(node):
                _read(child, hidden, names)


def _read_comprehension(
    node: Comprehension, hidden: frozenset[str], names: set[str], first: bool = True
) -> None:
    if first:
        _read(node.generators[0].iter, hidden, names)
    targets = {n.id for g in node.generators for n in walk(g.target) if isinstance(n, ast.Name)}
    inner = hidden | targets
    for index, generator in enumerate(node.generators):
        if index:
            _read(generator.iter, inner, names)
        for condition in generator.ifs:
            _read(condition, inner, names)
        _read(generator.target, inner, names)
    for part in [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]:
        _read(part, inner, names)


def _read_function(node: Function, hidden: frozenset[str], names: set[str]) -> None:
    body: list[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else [*node.body]
    own = set(argument_names(node.args))
    outer: set[str] = set()
    for stmt in body:
        own |= bound_names(stmt)
        for child in own_nodes(stmt):
            if isinstance(child, ast.Nonlocal):
                outer.update(child.names)
    names.update(outer - hidden)
    inner = hidden | (own - outer)
    for stmt in body:
        _read(stmt, inner, names)
