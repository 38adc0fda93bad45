"""Decides how the generated `steps.py` becomes functions that look like the user's source."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any

from kitaru.errors import EnvironmentFailure
from kitaru.wire.plan import Plan

Variables = dict[str, Any]
BlockFunction = Callable[[Variables], tuple[str | None, Any]]

_BROKEN = "Compile the flow again with `kitaru compile`; the files of one build belong together."


@dataclass(frozen=True, slots=True)
class _Positions:
    """Where the lines and the statements of one block function stand in the user's file."""

    lines: Mapping[int, tuple[int, int]]
    statements: Mapping[int, list[list[int]]]


def load(plan: Plan, steps: str, module: ModuleType) -> dict[str, BlockFunction]:
    """Return the block functions of `steps`, by name, living in the user's `module`.

    They are compiled under the user's file name and carry the flow's name, so that tracebacks,
    carets and debuggers show what the user wrote.

    Raises:
        EnvironmentFailure: `steps` is not the one that was compiled with `plan`.
    """
    tree = located(plan, steps)
    file = module.__file__ or plan.file
    code = compile(tree, file, "exec", dont_inherit=True)
    codes = {c.co_name: c for c in code.co_consts if isinstance(c, CodeType)}
    missing = [block.name for block in plan.blocks if block.name not in codes]
    if missing:
        raise EnvironmentFailure(f"steps.py has no block {missing[0]!r}.", help=_BROKEN)
    return {
        block.name: FunctionType(
            _renamed(codes[block.name], block.name, plan.flow), module.__dict__, plan.flow
        )
        for block in plan.blocks
    }


def located(plan: Plan, steps: str) -> ast.Module:
    """Return the tree of `steps` with every position that of the user's source.

    Raises:
        EnvironmentFailure: `steps` is no Python.
    """
    tables = {entry["function"]: _positions(entry) for entry in plan.positions}
    tree = _parse(steps)
    for function in _functions(tree):
        _place(function, tables.get(function.name, _Positions({}, {})), plan.line)
    return tree


def _parse(steps: str) -> ast.Module:
    try:
        return ast.parse(steps)
    except SyntaxError as error:
        raise EnvironmentFailure(f"steps.py cannot be read: {error}.", help=_BROKEN) from error


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    return (node for node in tree.body if isinstance(node, ast.FunctionDef))


def _positions(entry: Mapping[str, Any]) -> _Positions:
    lines = {int(line): (at[0], at[1]) for line, at in entry.get("lines", {}).items()}
    nodes = {int(index): places for index, places in entry.get("nodes", {}).items()}
    return _Positions(lines, nodes)


def _place(function: ast.FunctionDef, positions: _Positions, flow_line: int) -> None:
    for node in _located(function):
        _shift(node, positions.lines, flow_line)
    for index, places in positions.statements.items():
        # Written in the same walk order, so that a position needs no name of its own.
        for node, place in zip(_located(function.body[index]), places, strict=True):
            node.lineno, node.col_offset, node.end_lineno, node.end_col_offset = place


def _located(root: ast.AST) -> Iterator[Any]:
    return (node for node in ast.walk(root) if hasattr(node, "lineno"))


def _shift(node: Any, lines: Mapping[int, tuple[int, int]], flow_line: int) -> None:
    line, shift = lines.get(node.lineno, (flow_line, None))
    end_line, end_shift = lines.get(node.end_lineno, (line, None))
    start = (line, 0 if shift is None else max(0, node.col_offset + shift))
    end = (end_line, 0 if end_shift is None else max(0, node.end_col_offset + end_shift))
    # The compiler of Python refuses a range that ends before it begins.
    end = max(start, end)
    node.lineno, node.col_offset = start
    node.end_lineno, node.end_col_offset = end


def _renamed(code: CodeType, block: str, flow: str) -> CodeType:
    """Nested functions say `flow.<locals>.<lambda>`, as they do in the user's own file."""
    qualname = code.co_qualname
    if qualname == block or qualname.startswith(f"{block}."):
        qualname = flow + qualname[len(block) :]
    constants = tuple(
        _renamed(const, block, flow) if isinstance(const, CodeType) else const
        for const in code.co_consts
    )
    name = flow if code.co_name == block and qualname == flow else code.co_name
    return code.replace(co_name=name, co_qualname=qualname, co_consts=constants)
