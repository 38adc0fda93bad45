"""Create the input of the passes: a flow's body as code, and facts about its names."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping

from kitaru_compiler.frontend.flows import FlowDefinition
from kitaru_compiler.frontend.methods import Methods
from kitaru_compiler.frontend.names import Names, dotted_name
from kitaru_compiler.frontend.replacing import Replacing
from kitaru_compiler.ir.awaits import awaited
from kitaru_compiler.ir.known import BUILTINS, CONSUMERS, FRAME_READERS, is_literal
from kitaru_compiler.ir.nodes import Code, FlowIR
from kitaru_compiler.ir.scope import (
    argument_names,
    bound_in,
    bound_names,
    certainly_bound,
    deleted_names,
    own_nodes,
)
from kitaru_compiler.ir.walk import walk

DISPLAYS: dict[type[ast.expr], type] = {
    ast.List: list,
    ast.ListComp: list,
    ast.Dict: dict,
    ast.DictComp: dict,
    ast.Set: set,
    ast.SetComp: set,
}


def lower(
    flow: FlowDefinition,
    names: Names,
    literals: Mapping[str, ast.expr],
    methods: Methods,
    inlined: frozenset[str] = frozenset(),
    shared: frozenset[str] = frozenset(),
) -> FlowIR:
    """Return the IR of a flow or a helper whose calls have been marked (`frontend.calls`).

    The definitions of the local functions `inlined` are left out. `shared` are the variables that a
    local function reads from the function around it.
    """
    replacing = methods.replacing
    definition = flow.definition
    body = definition.body[1:] if ast.get_docstring(definition) is not None else definition.body
    body = body or [ast.copy_location(ast.Pass(), definition)]
    parameters = argument_names(definition.args)
    # `del x` makes x local as well, even if no statement binds it.
    local = set(parameters).union(*(bound_names(stmt) | deleted_names(stmt) for stmt in body))
    mentioned = {n.id for stmt in body for n in walk(stmt) if isinstance(n, ast.Name)}
    bound = set().union(*(bound_names(stmt) for stmt in flow.source.tree.body))
    around = bound_in(flow.outer.definition) if flow.outer else set()
    left_out = {name: stmt for stmt in body for name in _defined(stmt) if name in inlined}
    kept = [stmt for stmt in body if stmt not in left_out.values()]
    if isinstance(definition, ast.AsyncFunctionDef):
        kept = awaited(kept, lambda callee: _from_asyncio(flow, names, replacing, local, callee))
    return FlowIR(
        name=flow.name,
        function=flow.function,
        source=flow.source,
        definition=definition,
        body=[Code(stmt) for stmt in kept],
        parameters=tuple(parameters),
        locals=frozenset(local),
        mentioned=frozenset(mentioned | bound),
        globals=frozenset(bound | around | _doubtful_builtins(flow, replacing)),
        constants=frozenset(
            n for n in constants(flow.source.tree) - around if not replacing.name(n)
        ),
        literals={n: value for n, value in literals.items() if n not in around},
        modules=_modules(flow, names, mentioned - local - around, replacing),
        replaced=frozenset({*replacing.named, *replacing.attributes}),
        containers=_containers(body, parameters),
        inlined=left_out,
        outer=flow.outer.definition if flow.outer else None,
        shared=shared,
        exception_reader=methods.exception_reader,
    )


def _defined(stmt: ast.stmt) -> list[str]:
    """Return the name of the function or lambda that a statement defines."""
    match stmt:
        case (
            ast.FunctionDef(name=name) | ast.Assign(targets=[ast.Name(id=name)], value=ast.Lambda())
        ):
            return [name]
    return []


def _from_asyncio(
    flow: FlowDefinition, names: Names, replacing: Replacing, local: set[str], callee: ast.expr
) -> str:
    """Return the name of a function or class in asyncio, empty for any other callee."""
    parts = dotted_name(callee).split(".")
    if parts[0] in local or any(map(replacing.name, parts)):
        return ""
    symbol = names.resolve(flow.source, callee, flow.scope)
    module, _, name = symbol.name.rpartition(".") if symbol else ("", "", "")
    return name if module == "asyncio" and symbol and symbol.source is None else ""


def bare(flow: FlowDefinition) -> FlowIR:
    """Return a minimal IR for a flow without known facts, which must run uncut."""
    parameters = argument_names(flow.definition.args)
    return FlowIR(
        name=flow.name,
        function=flow.function,
        source=flow.source,
        definition=flow.definition,
        body=[],
        parameters=tuple(parameters),
        locals=frozenset(parameters),
        mentioned=frozenset(),
    )


def _doubtful_builtins(flow: FlowDefinition, replacing: Replacing) -> set[str]:
    """Return the builtins that the module may rebind although its source does not show it.

    Builtins that read frames keep their meaning, because their calls prevent cuts.
    """
    if replacing.anything:
        return set(BUILTINS - FRAME_READERS)
    stars = any(
        isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
        for node in flow.source.tree.body
    )
    named = (BUILTINS - FRAME_READERS | {"locals"}) & replacing.named.keys()
    return {*named, *(["range", *CONSUMERS] if stars else [])}


def constants(module: ast.Module) -> frozenset[str]:
    """Return the names that the module certainly binds exactly once, at its top level.

    Empty if a star import may bind any name.
    """
    if any(isinstance(stmt, ast.ImportFrom) and stmt.names[0].name == "*" for stmt in module.body):
        return frozenset()
    bindings = Counter(name for stmt in module.body for name in bound_names(stmt))
    for node in walk(module):
        if isinstance(node, ast.Global | ast.Delete):
            names = node.names if isinstance(node, ast.Global) else deleted_names(node)
            bindings.update(names)
    certain = {name for stmt in module.body for name in certainly_bound(stmt)}
    return frozenset(name for name in certain if bindings[name] == 1)


def literals(module: ast.Module) -> dict[str, ast.expr]:
    """Return the literals among a module's constants, by name."""
    known = constants(module)
    found = {}
    for stmt in module.body:
        match stmt:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=ast.expr() as value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ) if name in known and is_literal(value):
                found[name] = value
    return found


def _modules(
    flow: FlowDefinition, names: Names, candidates: set[str], replacing: Replacing
) -> frozenset[str]:
    """Return the global names of modules and classes, whose attributes do not change."""
    kinds = {"module", "primitive"} if replacing.methods else {"module", "primitive", "class"}
    stable = set()
    for name in candidates:
        symbol = names.lookup(flow.source, name, flow.scope)
        if symbol and symbol.kind in kinds and not replacing.name(name):
            stable.add(name)
    return frozenset(stable)


def _containers(body: list[ast.stmt], parameters: list[str]) -> dict[str, type]:
    """Return the locals that are only ever bound to displays of one builtin type."""
    found: dict[str, set[type]] = {name: {object} for name in parameters}
    displayed: set[ast.AST] = set()
    nodes = [node for stmt in body for node in own_nodes(stmt)]
    for node in nodes:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name) as target], value=value)
                | ast.AnnAssign(target=ast.Name(id=name) as target, value=value)
            ):
                if type(value) in DISPLAYS:
                    found.setdefault(name, set()).add(DISPLAYS[type(value)])  # type: ignore[index]
                    displayed.add(target)
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node not in displayed:
            found.setdefault(node.id, set()).add(object)
    for stmt in body:
        others = bound_names(stmt) - {n.id for n in own_nodes(stmt) if isinstance(n, ast.Name)}
        for name in others:
            found.setdefault(name, set()).add(object)
    single = {name: types.pop() for name, types in found.items() if len(types) == 1}
    return {name: type_ for name, type_ in single.items() if type_ is not object}
