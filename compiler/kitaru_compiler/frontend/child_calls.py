"""Find where a function waits for the child executions that it has started.

    report = kitaru.invoke("report", {"day": day}, wait=False)
    text = publish(report.result())        # may suspend the execution

`Child.result` is a method of a value, so its calls are found by name, in functions that start
children without waiting for them. Futures have a method of that name, too. Where a function submits
calls as well, only the methods of variables that certainly are children count. An overlooked wait
is found by the step that runs it, and suspends it there.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator

from kitaru_compiler.frontend.names import Symbol
from kitaru_compiler.ir.walk import walk

_INVOKES = ("invoke", "aio.invoke")


def results_of_children(
    function: ast.FunctionDef | ast.AsyncFunctionDef,
    called: Iterable[tuple[ast.Call, Symbol, str]],
) -> Iterator[tuple[ast.Call, bool]]:
    """Yield the calls `VALUE.result()` in a function, and whether the value certainly is a child.

    `called` are the function's calls with a known callee.
    """
    known = {node: (symbol, method) for node, symbol, method in called}
    starts = {node for node, (symbol, _) in known.items() if _starts(node, symbol)}
    if not starts:
        return
    submits = any(method for _, method in known.values())
    nodes = [node for stmt in function.body for node in walk(stmt)]
    certain = _children_in(nodes, starts)
    for node in nodes:
        match node:
            case ast.Call(func=ast.Attribute(value=receiver, attr="result"), args=[], keywords=[]):
                is_certain = isinstance(receiver, ast.Name) and receiver.id in certain
                if node not in known and (is_certain or not submits):
                    yield node, is_certain


def _starts(node: ast.Call, symbol: Symbol) -> bool:
    """Return whether a call starts a child and may not wait for it."""
    is_invoke = symbol.kind == "primitive" and symbol.name in _INVOKES
    return is_invoke and any(keyword.arg in ("wait", None) for keyword in node.keywords)


def _children_in(nodes: list[ast.AST], starts: set[ast.Call]) -> set[str]:
    """Return the variables that are bound to children, or to one child after another, alone."""
    stored = Counter(
        node.id
        for node in nodes
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    )
    found, lists = Counter[str](), Counter[str]()
    for node in nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as value):
                found[name] += value in starts
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.ListComp(elt=ast.Call() as one)):
                lists[name] += one in starts
    for node in nodes:
        match node:
            case (
                ast.comprehension(target=ast.Name(id=name), iter=ast.Name(id=iterated))
                | ast.For(target=ast.Name(id=name), iter=ast.Name(id=iterated))
            ) if lists[iterated] and lists[iterated] == stored[iterated]:
                found[name] += 1
    return {name for name, times in found.items() if times and times == stored[name]}
