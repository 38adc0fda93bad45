"""Turn the generated `steps.py` into functions that look like the user's source."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import CodeType, FunctionType, ModuleType
from typing import Any

from kitaru.errors import EnvironmentFailure
from kitaru.runtime.steps.helper_frames import Home, call_name, call_of, homes_of
from kitaru.wire.plan import Block, Plan
from kitaru.wire.structs import Struct

Variables = dict[str, Any]
# A block of an async flow returns a coroutine.
BlockFunction = Callable[[Variables], Any]
# The function of a block; async flows have coroutine functions.
Function = ast.FunctionDef | ast.AsyncFunctionDef

_BROKEN = "Compile the flow again with `kitaru compile`; the files of one build belong together."


class _Positions(Struct):
    """The positions of one block function's lines and statements in the user's file."""

    lines: Mapping[int, tuple[int, int]]
    statements: Mapping[int, list[list[int]]]


def load(plan: Plan, tree: ast.Module, module: ModuleType) -> dict[str, BlockFunction]:
    """Return the block functions of `tree` (see `located`), by name, in the user's `module`.

    The functions are compiled under the user's file name and have the flow's name, so that
    tracebacks, carets and debuggers show the user's source. The blocks of an inlined helper have
    the helper's names in the same way, and are called from the user's call of the helper.

    Raises:
        EnvironmentFailure: `tree` does not belong to the steps compiled with `plan`, or a helper is
            no longer the compiled
        function.
    """
    homes = homes_of(plan, module, _futures(tree))
    functions = {function.name: function for function in _functions(tree)}
    missing = [block.name for block in plan.blocks if block.name not in functions]
    if missing:
        raise EnvironmentFailure(f"steps.py has no block {missing[0]!r}.", help=_BROKEN)
    parts = [(homes[block.activation], functions[block.name]) for block in plan.blocks]
    is_async = isinstance(functions[plan.blocks[0].name], ast.AsyncFunctionDef)
    calls = {a.name: (homes[a.caller], call_of(a, is_async)) for a in plan.activations}
    made = _compiled([*parts, *calls.values()])
    return {block.name: _called(made[block.name], block, homes, made) for block in plan.blocks}


def _called(
    function: BlockFunction, block: Block, homes: Mapping[str, Home], made: Mapping[str, Any]
) -> BlockFunction:
    """Return the block wrapped in the calls, from outer to inner, that lead to its activation."""
    called = homes[block.activation].called
    while called is not None:
        function = partial(made[call_name(called)], function)
        called = homes[called.caller].called
    return function


def _compiled(parts: list[tuple[Home, Function]]) -> dict[str, FunctionType]:
    """Compile functions, those of one module together, each within its home's function."""
    by_module: dict[int, list[tuple[Home, Function]]] = {}
    for home, function in parts:
        by_module.setdefault(id(home.module), []).append((home, function))
    made = {}
    for group in by_module.values():
        home = group[0][0]
        tree = ast.Module([*_imports(home), *(function for _, function in group)], [])
        code = compile(tree, home.file, "exec", dont_inherit=True)
        codes = {c.co_name: c for c in code.co_consts if isinstance(c, CodeType)}
        for home, function in group:
            renamed = _renamed(codes[function.name], function.name, home)
            made[function.name] = FunctionType(renamed, vars(home.module), home.name)
    return made


def _futures(tree: ast.Module) -> tuple[str, ...]:
    imports = (stmt for stmt in tree.body if isinstance(stmt, ast.ImportFrom))
    return tuple(alias.name for stmt in imports for alias in stmt.names)


def _imports(home: Home) -> list[ast.stmt]:
    if not home.futures:
        return []
    aliases = [ast.alias(name) for name in home.futures]
    return [ast.fix_missing_locations(ast.ImportFrom("__future__", aliases, 0))]


def located(plan: Plan, steps: str) -> ast.Module:
    """Return the tree of `steps` with every position replaced by that of the user's source.

    Raises:
        EnvironmentFailure: `steps` is not valid Python, or does not belong to the plan.
    """
    try:
        return _located_tree(plan, steps)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise EnvironmentFailure(
            f"steps.py is not that of its plan: {type(error).__name__}: {error}.", help=_BROKEN
        ) from error


def _located_tree(plan: Plan, steps: str) -> ast.Module:
    tables = {entry["function"]: _positions(entry) for entry in plan.positions}
    starts = {"": plan.line} | {called.name: called.line for called in plan.activations}
    lines = {block.name: starts[block.activation] for block in plan.blocks}
    tree = _parse(steps)
    for function in _functions(tree):
        positions = tables.get(function.name, _Positions({}, {}))
        _place(function, positions, lines.get(function.name, plan.line))
    return tree


def _parse(steps: str) -> ast.Module:
    try:
        return ast.parse(steps)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise EnvironmentFailure(f"steps.py cannot be read: {error}.", help=_BROKEN) from error


def _functions(tree: ast.Module) -> Iterator[Function]:
    return (node for node in tree.body if isinstance(node, Function))


def _positions(entry: Mapping[str, Any]) -> _Positions:
    lines = {int(line): (at[0], at[1]) for line, at in entry.get("lines", {}).items()}
    nodes = {int(index): places for index, places in entry.get("nodes", {}).items()}
    return _Positions(lines, nodes)


def _place(function: Function, positions: _Positions, start: int) -> None:
    for node in _located(function):
        _shift(node, positions.lines, start)
    for index, places in positions.statements.items():
        # Positions are written in the same walk order, so they need no names.
        for node, place in zip(_located(function.body[index]), places, strict=True):
            node.lineno, node.col_offset, node.end_lineno, node.end_col_offset = place


def _located(root: ast.AST) -> Iterator[Any]:
    """Yield the nodes that have a position, in the order of `ast.walk`, in half its time."""
    level = [root]
    for node in level:
        for name in node._fields:
            value = getattr(node, name, None)
            if value.__class__ is list:
                level += [item for item in value if isinstance(item, ast.AST)]
            elif isinstance(value, ast.AST):
                level.append(value)
        if hasattr(node, "lineno"):
            yield node


def _shift(node: Any, lines: Mapping[int, tuple[int, int]], start_line: int) -> None:
    line, shift = lines.get(node.lineno, (start_line, None))
    end_line, end_shift = lines.get(node.end_lineno, (line, None))
    start = (line, 0 if shift is None else max(0, node.col_offset + shift))
    end = (end_line, 0 if end_shift is None else max(0, node.end_col_offset + end_shift))
    # Python's compiler rejects a range that ends before it starts.
    end = max(start, end)
    node.lineno, node.col_offset = start
    node.end_lineno, node.end_col_offset = end


def _renamed(code: CodeType, block: str, home: Home) -> CodeType:
    """Give nested functions the qualified names `flow.<locals>.<lambda>` of the user's own file."""
    qualname = code.co_qualname
    own = qualname == block
    if own or qualname.startswith(f"{block}."):
        qualname = home.function + qualname[len(block) :]
    constants = tuple(
        _renamed(const, block, home) if isinstance(const, CodeType) else const
        for const in code.co_consts
    )
    name = home.name if own else code.co_name
    return code.replace(co_name=name, co_qualname=qualname, co_consts=constants)
