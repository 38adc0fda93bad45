"""Keep the statements after certain closures in one process.

The closures are those over variables that change, and those that contain checkpoints. Even within
one process, cells do not outlive the function that created them, so this is decided at compile time
and never at run time. A local function that is only called has no effect after its last call.

Before::

    calls = 0
    def count():
        nonlocal calls
        calls += 1
    notes = research(topic)
    count()
    return draft(notes)

After::

    calls = 0
    # region: a closure captures `calls`, which changes
    def count():
        nonlocal calls
        calls += 1
    notes = research(topic)
    count()
    return draft(notes)
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import replace

from kitaru_compiler.diagnostics.model import Rule
from kitaru_compiler.diagnostics.rules.cutting import (
    CLOSURE_OVER_CHANGING_VARIABLE,
    LOCAL_FUNCTION_CALLS_CHECKPOINTS,
)
from kitaru_compiler.ir.known import CONSUMERS
from kitaru_compiler.ir.nodes import Code, Fan, FlowIR, If, Node, Region, Return, durable_calls
from kitaru_compiler.ir.scope import (
    Function,
    captured_names,
    definition_time,
    deleted_names,
    own_nodes,
)

# A closure, the rule that it matches, the reason and the fix.
Found = tuple[ast.AST, Rule, str, str]
# The builtins with a key function.
_KEYED = frozenset({"max", "min", "sorted"})


def closures(ir: FlowIR) -> FlowIR:
    """Put the statements from such a closure to its last use into one region."""
    body: list[Node] = []
    rest = ir.body
    while rest:
        found = _found(rest[0], ir)
        length = _extent(rest, ir)
        stmts = [stmt for node in rest[:length] for stmt in _statements(node)]
        if found and durable_calls(*stmts):
            closure, rule, reason, fix = found[0]
            body.append(Region(stmts, durable_calls(*stmts), rule, reason, closure, fix))
        else:
            body += rest[:length]
        rest = rest[length:]
    return replace(ir, body=body)


def _found(node: Node, ir: FlowIR) -> list[Found]:
    return [found for stmt in _statements(node) for found in _dangerous(stmt, ir)]


def _extent(nodes: list[Node], ir: FlowIR) -> int:
    """Return how many nodes must stay in one process because of the closures in the first one.

    A closure that one of these nodes creates may be used after the last use of the first:

        first = lambda v: draft(v, n)
        second = lambda v: check(v, n)
        text = first(1)
        n = second(2)
        n = second(3)
    """
    length, at = 1, 0
    while at < length:
        if found := _found(nodes[at], ir):
            length = max(length, at + _reach(nodes[at:], found, ir))
        at += 1
    return length


def _reach(nodes: list[Node], found: list[Found], ir: FlowIR) -> int:
    """Return how many nodes, starting with that of the closures, must stay in one process.

    All nodes must stay, unless the closures are functions that are only called and whose calls
    leave no closure behind. Such functions share variables with the flow only up to their last
    call.
    """
    bound = dict(_bound_functions(nodes[0]))
    for one, rule, _, _ in found:
        if one not in bound:
            return len(nodes)
        if rule is CLOSURE_OVER_CHANGING_VARIABLE and _leaves_closures(one):
            return len(nodes)
    names = {bound[one] for one, *_ in found}
    last = 0
    for index, node in enumerate(nodes):
        for stmt in _statements(node):
            made = {target for target in _targets(stmt) if index == 0}
            used = [n for n in ast.walk(stmt) if isinstance(n, ast.Name) and n.id in names]
            used = [n for n in used if n not in made]
            if used and not called_now(stmt, ir).issuperset(used):
                return len(nodes)
            last = index if used else last
    return last + 1


def _bound_functions(node: Node) -> Iterator[tuple[ast.AST, str]]:
    """Yield each function that a node binds to exactly one variable, with the variable."""
    for stmt in _statements(node):
        for inner in own_nodes(stmt):
            match inner:
                case ast.FunctionDef(name=name, decorator_list=[]):
                    yield inner, name
        match stmt:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Lambda() as function):
                yield function, name


def _targets(stmt: ast.stmt) -> list[ast.expr]:
    """Return the variable that a statement binds to a lambda."""
    match stmt:
        case ast.Assign(targets=[ast.Name() as target], value=ast.Lambda()):
            return [target]
    return []


def _leaves_closures(function: ast.AST) -> bool:
    """Return whether a call may leave an object behind that shares the function's variables.

    def each():                 # a generator runs on after the call
        yield n
    def adder(v):               # the inner function outlives it
        return lambda: v + n
    async def worker(v):        # a task may run the coroutine later
        return v + n
    """
    if isinstance(function, ast.AsyncFunctionDef):
        return True
    body = function.body if isinstance(function.body, list) else [function.body]  # type: ignore[attr-defined]
    kinds = (*Function.__args__, ast.ClassDef, ast.GeneratorExp, ast.Yield, ast.YieldFrom)
    return any(isinstance(node, kinds) for part in body for node in ast.walk(part))


def called_now(stmt: ast.stmt, ir: FlowIR) -> set[ast.AST]:
    """Return the callees that a statement calls while it runs, not later from a generator."""
    own = list(own_nodes(stmt))
    kept = {g for g in own if isinstance(g, ast.GeneratorExp)}.difference(_consumed(stmt, ir))
    later = {n for g in kept for n in ast.walk(g)}
    return {n.func for n in own if isinstance(n, ast.Call) and n not in later}


def _statements(node: Node) -> Iterator[ast.stmt]:
    match node:
        case If(source=source):
            yield source
        case Region(stmts) | Fan(stmts):
            yield from stmts
        case Code(stmt) | Return(stmt):
            yield stmt


def _dangerous(stmt: ast.stmt, ir: FlowIR) -> Iterator[Found]:
    consumed = set(_consumed(stmt, ir))
    for node in own_nodes(stmt):
        if not isinstance(node, Function | ast.ClassDef | ast.GeneratorExp):
            continue
        if durable_calls(*_later_parts(node)) and not isinstance(node, ast.GeneratorExp):
            name = f"`{node.name}`" if hasattr(node, "name") else "a lambda"
            reason = f"{name} calls checkpoints from inside the flow"
            fix = "move the function to module level and pass what it uses as arguments"
            if isinstance(node, ast.Lambda):
                fix = "call the checkpoint from the flow"
            yield node, LOCAL_FUNCTION_CALLS_CHECKPOINTS, reason, fix
        if node in consumed:
            continue
        for name in sorted(captured_names(node) & ir.locals):
            if _changes(name, node, ir):
                reason = f"a closure captures `{name}`, which changes"
                fix = f"pass `{name}` as an argument instead of capturing it"
                yield node, CLOSURE_OVER_CHANGING_VARIABLE, reason, fix


def _later_parts(node: ast.AST) -> list[ast.AST]:
    if isinstance(node, ast.Lambda):
        return [node.body]
    return list(getattr(node, "body", [])) if not isinstance(node, ast.GeneratorExp) else [node.elt]


def _consumed(stmt: ast.stmt, ir: FlowIR) -> Iterator[ast.AST]:
    """Yield the functions and generators that a builtin is done with when it returns.

    `dict(key=lambda: n)` stores its argument. A key function may leave another closure behind.
    """
    for node in own_nodes(stmt):
        match node:
            case ast.Call(func=ast.Name(id=name)) if ir.is_builtin(name, CONSUMERS):
                match node.args:
                    # `max(one, other)` may return a generator.
                    case [ast.GeneratorExp() as only, *others] if name == "sum" or not others:
                        yield only
                if name in _KEYED:
                    keys = (k.value for k in node.keywords if k.arg == "key")
                    lambdas = (key for key in keys if isinstance(key, ast.Lambda))
                    yield from (key for key in lambdas if not _leaves_closures(key))
            case ast.Call(func=ast.Attribute(value=ast.Constant(value=str()), attr="join")):
                yield from node.args


def _changes(name: str, closure: ast.AST, ir: FlowIR) -> bool:
    """Return whether `name` is bound, rebound or unbound where the closure could observe it."""
    start = (closure.lineno, closure.col_offset)  # type: ignore[attr-defined]
    bindings = int(name in ir.parameters)
    for stmt in ir.definition.body:
        if name in deleted_names(stmt) or _written_inside(stmt, name):
            return True
        for node, looped in _binding_places(stmt, name, False):
            bindings += 1
            if looped or (node.lineno, node.col_offset) >= start:  # type: ignore[attr-defined]
                return True
    return bindings != 1


def _written_inside(stmt: ast.stmt, name: str) -> bool:
    return any(isinstance(n, ast.Nonlocal) and name in n.names for n in ast.walk(stmt))


def _binding_places(node: ast.AST, name: str, looped: bool) -> Iterator[tuple[ast.AST, bool]]:
    children: Iterable[ast.AST] = ast.iter_child_nodes(node)
    match node:
        case ast.Name(id=found, ctx=ast.Store()) if found == name:
            yield node, looped
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            if node.name == name:
                yield node, looped
            children = definition_time(node)
        case ast.Lambda():
            children = definition_time(node)
        case ast.Import() | ast.ImportFrom():
            if any((a.asname or a.name.split(".")[0]) == name for a in node.names):
                yield node, looped
        case (
            ast.ExceptHandler(name=found)
            | ast.MatchAs(name=found)
            | ast.MatchStar(name=found)
            | ast.MatchMapping(rest=found)
        ) if found == name:
            yield node, True
    looped = looped or isinstance(node, ast.For | ast.While | ast.AsyncFor)
    for child in children:
        yield from _binding_places(child, name, looped)
