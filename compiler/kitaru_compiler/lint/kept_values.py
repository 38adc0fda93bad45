"""Find module-level objects whose state keeps a flow in one process.

They are iterators, connections and the like that it uses before and after a checkpoint, and context
variables that it sets before one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from kitaru.wire.plan import Span
from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.values import MODULE_STATE
from kitaru_compiler.frontend.names import Names, dotted_name
from kitaru_compiler.frontend.source import Source
from kitaru_compiler.ir.scope import own_nodes
from kitaru_compiler.lint.body import Body
from kitaru_compiler.lint.call_graph import reached
from kitaru_compiler.lint.shared import bindings

_ITERATORS = frozenset({"enumerate", "filter", "iter", "map", "reversed", "zip"})
_MADE = {
    **dict.fromkeys(["itertools.count", "itertools.cycle", "itertools.chain"], "an iterator"),
    **dict.fromkeys(["queue.Queue", "queue.LifoQueue", "queue.PriorityQueue"], "a queue"),
    **dict.fromkeys(["queue.SimpleQueue", "asyncio.Queue"], "a queue"),
    **dict.fromkeys(["io.StringIO", "io.BytesIO", "io.open"], "an open file"),
    "random.Random": "a random generator",
    "socket.socket": "a connection",
    "sqlite3.connect": "a connection",
}
# The file and the name of a variable.
_Kept = tuple[str, str]


def kept_state(body: Body) -> Iterator[Diagnostic]:
    """Find objects of a module that are used both before and after a durable call."""
    yield from _set_variables(body)
    first: dict[_Kept, tuple[int, ast.AST]] = {}
    told: set[_Kept] = set()
    durable: list[int] = []
    for at, stmt in enumerate(body.definition.body):
        uses, calls = _Uses(), own_nodes(stmt)
        uses.add(body, calls)
        if uses.durable:
            durable.append(at)
        for kept, (node, kind, made) in uses.found.items():
            since, earlier = first.setdefault(kept, (at, node))
            if since == at or kept in told or not durable or durable[-1] < since:
                continue
            told.add(kept)
            message = (
                f"`{kept[1]}` is {kind} of the module that the flow also uses before: the code "
                "between runs in one process"
            )
            fix = "create it in the checkpoint that uses it, or keep what is in it in a variable"
            related = ((body.source.span(earlier), "used here"), (made, "created here"))
            yield body.find(MODULE_STATE, node, message, help=fix, related=related)


def _set_variables(body: Body) -> Iterator[Diagnostic]:
    """Find context variables that the flow, or a helper of it, sets before a durable call."""
    last = _last_durable(body)
    own = [(name, node, name, ()) for name, node in _variables_set(body)]
    told: set[ast.AST] = set()
    for name, node, shown, related in [
        *own,
        *(
            (one.fact, one.call, f"{one.name}()", one.related(f"`{one.fact}` is set here"))
            for one in reached(body, _variables_set)
        ),
    ]:
        if node in told or body.source.span(node).line > last:
            continue
        told.add(node)
        by = "" if shown == name else f" by `{shown}`"
        message = (
            f"the context variable `{name}` is set{by}: a step in another process would not have "
            "its value, so the steps from here on run in this one"
        )
        fix = "pass the value to the checkpoints as an argument"
        yield body.find(MODULE_STATE, node, message, help=fix, related=related)


def _last_durable(body: Body) -> int:
    """Return the last line of the last statement with a durable call, 0 without one."""
    last = 0
    for stmt in body.definition.body:
        uses = _Uses()
        uses.add(body, own_nodes(stmt))
        if uses.durable:
            # In a compound statement, the call may come after any line of it, as in a loop.
            nested = isinstance(getattr(stmt, "body", None), list)
            last = (stmt.end_lineno or stmt.lineno) if nested else stmt.lineno - 1
    return last


def _variables_set(body: Body) -> Iterator[tuple[str, ast.AST]]:
    """Yield the context variables of modules that a function sets."""
    for node in body.nodes:
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name() | ast.Attribute() as owner, attr="set")
            ):
                dotted = dotted_name(owner)
                if dotted and not body.hides(dotted.partition(".")[0]):
                    variable = body.names.variable(body.source, dotted)
                    if _is_context_variable(body, variable):
                        yield variable.rpartition(".")[2], node


def _is_context_variable(body: Body, variable: str) -> bool:
    module, _, name = variable.rpartition(".")
    source = body.names.project.find(module) if module else None
    value = body.names.assignment(source, name) if source is not None else None
    if source is None or not isinstance(value, ast.Call):
        return False
    function = value.func.value if isinstance(value.func, ast.Subscript) else value.func
    symbol = body.names.resolve(source, function)
    return symbol is not None and symbol.name == "contextvars.ContextVar" and not symbol.source


class _Uses:
    """The names that nodes use, and the helpers and checkpoints they call, each function once."""

    def __init__(self) -> None:
        self.found: dict[_Kept, tuple[ast.AST, str, Span]] = {}
        self.durable = False
        self._seen: set[ast.AST] = set()

    def add(self, body: Body, nodes: Iterable[ast.AST], shown: ast.AST | None = None) -> None:
        for node in nodes:
            at = shown or node
            if isinstance(node, ast.Name) and not body.hides(node.id):
                self._note(body, node.id, at)
            symbol = body.symbol(node) if isinstance(node, ast.Name | ast.Attribute) else None
            if symbol is None or symbol.kind not in ("checkpoint", "function", "primitive"):
                continue
            self.durable |= symbol.kind in ("checkpoint", "primitive")
            definition = symbol.definition
            if not isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if symbol.source is not None and definition not in self._seen:
                self._seen.add(definition)
                inner = body.bodies.of(symbol.source, definition, symbol.options)
                self.add(inner, inner.nodes, at)

    def _note(self, body: Body, name: str, at: ast.AST) -> None:
        match bindings(body.source.tree).get(name, []):
            case [ast.Assign(targets=[ast.Name()], value=value)]:
                pass
            case [ast.AnnAssign(value=ast.expr() as value)]:
                pass
            case _:
                return
        kind = _kind(body.names, body.source, value)
        if kind:
            kept = body.source.file, name
            self.found.setdefault(kept, (at, kind, body.source.span(value)))


def _kind(names: Names, source: Source, value: ast.expr) -> str:
    """Return the kind of stateful object that a module's expression creates, or an empty string."""
    if isinstance(value, ast.GeneratorExp):
        return "a generator"
    if not isinstance(value, ast.Call):
        return ""
    function = value.func
    if isinstance(function, ast.Name) and names.is_builtin(source, function.id):
        if function.id in _ITERATORS:
            return "an iterator"
        return "an open file" if function.id == "open" else ""
    symbol = names.resolve(source, function)
    if symbol is None:
        return ""
    if symbol.kind == "module" and symbol.source is None:
        return _MADE.get(symbol.name, "")
    if symbol.kind == "function" and isinstance(symbol.definition, ast.FunctionDef):
        nodes = (node for stmt in symbol.definition.body for node in own_nodes(stmt))
        lazy = any(isinstance(node, ast.Yield | ast.YieldFrom) for node in nodes)
        return "a generator" if lazy and not symbol.definition.decorator_list else ""
    return ""
