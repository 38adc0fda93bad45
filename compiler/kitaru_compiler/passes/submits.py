"""Classify what a statement does with futures: submit, store or read them.

The result of a program does not depend on this module, because reading a future waits for it. The
module only decides which statements become nodes of their own.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from kitaru_compiler.ir.nodes import durable_calls, durable_of
from kitaru_compiler.ir.scope import Comprehension, bound_names, read_names, target_names

# Methods that store their argument in a container without reading it.
_STORING = frozenset({"add", "append", "extend", "insert", "setdefault", "update"})
_SIMPLE = ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Expr
_LATER = ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
# Statements that can be split because all their submits are evaluated before other operations.
_SPLIT = (*_SIMPLE.__args__, ast.Return, ast.Raise, ast.If, ast.For, ast.With, ast.Match)


def submits(*nodes: ast.AST) -> bool:
    """Return whether `nodes` contain a submit."""
    return any(call.kind == "submit" for call in durable_calls(*nodes))


def is_only_submitting(stmt: ast.stmt, variables: frozenset[str]) -> bool:
    """Return whether a statement submits, stores the futures in `variables`, and reads none."""
    return submits(stmt) and _is_storing_statement(stmt, variables)


def _is_storing_statement(stmt: ast.stmt, variables: frozenset[str]) -> bool:
    match stmt:
        case ast.Assign(targets=targets, value=value):
            return all(_is_place(t, variables) for t in targets) and _is_kept(value)
        case (
            ast.AnnAssign(target=target, value=ast.expr() as value)
            | ast.AugAssign(target=target, value=value)
        ):
            return _is_place(target, variables) and _is_kept(value)
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name))) as call) if (
            durable_of(call) is None
        ):
            known = name in variables and _is_storing(call)
            return known and all(map(_is_kept, call.args))
        case ast.Expr(value=value):
            return _is_kept(value)
        case ast.For(iter=iterable, target=target, body=body, orelse=orelse):
            inner = [*body, *orelse]
            return _is_free(iterable, target) and _is_submitting_body(inner, variables)
    return False


def _is_place(target: ast.expr, variables: frozenset[str]) -> bool:
    """Return whether a target is a flow variable. Other futures do not cross a cut."""
    match target:
        case ast.Name(id=name) | ast.Subscript(value=ast.Name(id=name)):
            return name in variables and _is_free(target)
        case ast.Tuple(elts=elts) | ast.List(elts=elts):
            return all(_is_place(part, variables) for part in elts)
        case ast.Starred(value=value):
            return _is_place(value, variables)
    return False


def _is_submitting_body(stmts: list[ast.stmt], variables: frozenset[str]) -> bool:
    """Return whether repeated statements only submit and store, in any order."""
    futures: set[str] = set()
    for stmt in stmts:
        futures |= stored_into(stmt, futures)
    harmless = (_is_harmless(stmt, futures, variables) for stmt in stmts)
    return submits(*stmts) and all(harmless)


def _is_harmless(stmt: ast.stmt, futures: set[str], variables: frozenset[str]) -> bool:
    if looked_at(stmt, futures) or isinstance(stmt, ast.Return | ast.Raise):
        return False
    if not durable_calls(stmt):
        return not any(isinstance(node, ast.Return) for node in ast.walk(stmt))
    if isinstance(stmt, ast.If):
        inner = [*stmt.body, *stmt.orelse]
        harmless = (_is_harmless(one, futures, variables) for one in inner)
        return _is_free(stmt.test) and all(harmless)
    return is_only_submitting(stmt, variables)


def _is_kept(node: ast.expr) -> bool:
    """Return whether the value of `node` contains its futures unchanged."""
    match node:
        case ast.Call() if (call := durable_of(node)) is not None:
            inside = [*node.args, *(keyword.value for keyword in node.keywords)]
            return call.kind == "submit" and _is_free(node.func, *inside)
        case ast.List(elts=elts) | ast.Tuple(elts=elts) | ast.Set(elts=elts):
            return all(map(_is_kept, elts))
        case ast.Starred(value=value):
            return _is_kept(value)
        case ast.Dict(keys=keys, values=values):
            return _is_free(*filter(None, keys)) and all(map(_is_kept, values))
        case (
            ast.ListComp(elt=value, generators=generators)
            | ast.SetComp(elt=value, generators=generators)
        ):
            return _is_free(*generators) and _is_kept(value)
        case ast.DictComp(key=key, value=value, generators=generators):
            return _is_free(key, *generators) and _is_kept(value)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return _is_free(test) and _is_kept(body) and _is_kept(orelse)
    return _is_free(node)


def _is_free(*nodes: ast.AST) -> bool:
    return not durable_calls(*nodes)


def _is_storing(call: ast.Call) -> bool:
    match call.func:
        case ast.Attribute(value=ast.Name(), attr=attr):
            return attr in _STORING and not call.keywords
    return False


def stored_into(stmt: ast.stmt, futures: set[str]) -> set[str]:
    """Return the names through which futures are reachable after `stmt`.

    `futures` are the names through which futures are reachable before it.
    """
    found: set[str] = set()
    for node in ast.walk(stmt):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name))) if _is_storing(node):
                if submits(*node.args) or set().union(*map(read_names, node.args)) & futures:
                    found.add(name)
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign() | ast.NamedExpr():
                if node.value is not None and _holds_future(node.value):
                    found |= bound_names(node) | _stores(node)
    return found


def _holds_future(node: ast.AST, futures: frozenset[str] = frozenset()) -> bool:
    """Return whether a value may contain a future. Those of `.result()` and `await` contain none.

    `futures` are the variables of enclosing comprehensions that stand for submitted calls.
    """
    match node:
        case ast.Call(func=ast.Attribute(attr="result")) | ast.Await():
            return False
        case ast.Call() if (call := durable_of(node)) is not None and call.kind == "submit":
            return True
        case ast.Name(id=name):
            return name in futures
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            for loop in node.generators:
                if _holds_future(loop.iter, futures):
                    futures |= target_names(loop.target)
            kept = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
            return any(_holds_future(part, futures) for part in kept)
    return any(_holds_future(child, futures) for child in ast.iter_child_nodes(node))


def _stores(node: ast.AST) -> set[str]:
    """Return the names of the containers that an assignment stores an item in."""
    targets: list[ast.AST] = [*getattr(node, "targets", [getattr(node, "target", node)])]
    parts = [part for target in targets for part in ast.walk(target)]
    return {
        part.value.id
        for part in parts
        if isinstance(part, ast.Subscript | ast.Attribute) and isinstance(part.value, ast.Name)
    }


def looked_at(stmt: ast.stmt, futures: set[str]) -> set[str]:
    """Return the names among `futures` whose results `stmt` may read."""
    return {node.id for node in _looks(stmt, futures)}


def _looks(stmt: ast.stmt, futures: set[str]) -> set[ast.Name]:
    """Return the places where `stmt` reads `futures`, except to store an item in them."""
    if not futures & read_names(stmt):
        return set()
    only_stored: set[ast.AST] = set()
    for node in ast.walk(stmt):
        match node:
            case ast.Call(func=ast.Attribute(value=receiver), args=args) if _is_storing(node):
                only_stored |= {receiver, *args}
            case ast.Subscript(value=holder, ctx=ast.Store()):
                only_stored.add(holder)
            case ast.AugAssign(target=ast.Name() as target):
                only_stored.add(target)
    return {
        node
        for node in ast.walk(stmt)
        if isinstance(node, ast.Name)
        and isinstance(node.ctx, ast.Load)
        and node.id in futures
        and node not in only_stored
    }


def split_reason(stmt: ast.stmt, variables: frozenset[str]) -> str:
    """Return why the submits of a statement cannot move before its other operations."""
    if is_only_submitting(stmt, variables):
        return ""
    if not isinstance(stmt, _SPLIT):
        return f"what else is in `{type(stmt).__name__.lower()}`"
    if submits(*(part for name in ("body", "orelse", "cases") for part in _field(stmt, name))):
        return "what else is in the loop" if isinstance(stmt, ast.For) else "what else is there"
    for node in ast.walk(stmt):
        if isinstance(node, ast.GeneratorExp) and submits(*_each_round(node)):
            return "what reads the generator"
        if isinstance(node, _LATER) and submits(node):
            return "a closure"
        if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp) and _is_chained(node):
            return "what waits for them in the comprehension"
    return ""


def _field(stmt: ast.stmt, name: str) -> list[ast.AST]:
    return list(getattr(stmt, name, []))


def _is_chained(node: ast.ListComp | ast.SetComp | ast.DictComp) -> bool:
    """Return whether one iteration of a comprehension both submits and waits, or submits twice."""
    *others, kept = _each_round(node)
    return submits(*others, kept) and not (
        isinstance(kept, ast.expr) and _is_kept(kept) and _is_free(*others)
    )


def _each_round(node: Comprehension) -> list[ast.AST]:
    """Return the expressions that a comprehension evaluates repeatedly, its result last."""
    first, *others = node.generators
    parts: list[ast.AST] = [first.target, *first.ifs, *others]
    return [*parts, *([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])]


def others_beside(stmt: ast.stmt, pending: Iterable[str]) -> str:
    """Name a call that would run alongside pending calls, or alongside those that `stmt` submits.

    Calls that were submitted together are gathered when the first of their results is read:

        pages, links = fetch.submit(url), search.submit(url)
        return index(pages.result()) + index(links.result())

    `index` needs one of the results, so waiting for both costs little: each call becomes a node.
    """
    waiting = set(pending)
    looks = _looks(stmt, waiting)
    submitted = [node for node in ast.walk(stmt) if _kind(node) == "submit"]
    for node in _in_order(stmt):
        if node in looks:
            waiting.clear()
        call = durable_of(node)
        if call is None or call.kind == "submit":
            continue
        if waiting or any(not _ordered(stmt, node, other) for other in submitted):
            return f"`{call.name}`"
    return ""


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the expressions of a statement in Python's evaluation order, each after its parts."""
    parts: Iterable[ast.AST | None] = ast.iter_child_nodes(node)
    match node:
        case ast.Assign(targets=targets, value=value):
            parts = [value, *targets]
        case ast.AnnAssign(target=target, value=value) | ast.AugAssign(target=target, value=value):
            parts = [value, target]
        case ast.For(target=target, iter=iterable, body=body, orelse=orelse):
            parts = [iterable, target, *body, *orelse]
        case ast.IfExp(test=test, body=body, orelse=orelse):
            parts = [test, body, orelse]
        case ast.Dict(keys=keys, values=values):
            parts = [part for pair in zip(keys, values, strict=True) for part in pair]
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            parts = [node.generators[0].iter, *_each_round(node)]
    for part in parts:
        if part is not None:
            yield from _in_order(part)
    yield node


def _kind(node: ast.AST) -> str:
    call = durable_of(node)
    return call.kind if call else ""


def _ordered(stmt: ast.stmt, call: ast.AST, submit: ast.AST) -> bool:
    """Return whether a call needs the submitted call's future, or ends before the submit."""
    if _within(submit, call) or _within(call, submit):
        return True
    comprehensions = [node for node in ast.walk(stmt) if isinstance(node, Comprehension)]
    return any(
        _within(call, node.generators[0].iter) and _within(submit, node) for node in comprehensions
    )


def _within(node: ast.AST, whole: ast.AST) -> bool:
    return any(node is part for part in ast.walk(whole))
