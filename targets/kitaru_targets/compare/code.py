"""The code of a step for a comparison: its blocks without jumps, and the definitions used."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kitaru.runtime.steps.blocks import Function
from kitaru.wire.definitions import read_definitions
from kitaru.wire.fingerprint import Parts, fingerprint_parts
from kitaru.wire.plan import Plan

# By `module:name`: the code of a definition, and the location of its first line.
Definitions = dict[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Code:
    """The statements of blocks, one per line, and the project's definitions that they use.

    Comments, layout, docstrings and the names of the next blocks are left out.
    """

    lines: tuple[str, ...]
    definitions: Definitions


class Codes:
    """Reads the code of the blocks of one build."""

    def __init__(self, plan: Plan, steps: str, sources: Mapping[str, str]) -> None:
        self._plan = plan
        self._sources = sources
        tree = ast.parse(steps)
        self._functions = {f.name: f for f in tree.body if isinstance(f, Function)}
        homes = {"": plan.module} | {called.name: called.module for called in plan.activations}
        self._modules = {block.name: homes[block.activation] for block in plan.blocks}
        self._known: dict[tuple[str, str], Definitions] = {}

    def of(self, blocks: Iterable[str]) -> Code:
        """Return the code of some blocks, in the given order."""
        lines: list[str] = []
        definitions: Definitions = {}
        for name in blocks:
            function = self._functions.get(name)
            if function is None:
                definitions |= self._mentioned(self._plan.module, self._plan.flow)
                continue
            kept = _without_frame(function)
            mentioned = {n.id for s in kept for n in ast.walk(s) if isinstance(n, ast.Name)}
            lines += [line for stmt in kept for line in _written(stmt)]
            for each in sorted(mentioned):
                definitions |= self._mentioned(self._modules[name], each)
        return Code(tuple(lines), definitions)

    def _mentioned(self, module: str, name: str) -> Definitions:
        key = module, name
        if key not in self._known:
            parts = fingerprint_parts(self._source_of, module, name, _unversioned)
            self._known[key] = self._definitions(parts) if parts else {}
        return self._known[key]

    def _definitions(self, parts: Parts) -> Definitions:
        # Kitaru's own version is compared separately.
        packages = [package for package in parts.packages if package.name != "kitaru"]
        used = [f"{p.name}.{name}".rstrip(".") for p in packages for name in p.names]
        return {f"{name}:": ("outside", "") for name in used} | {
            f"{part.module}:{part.name}": (
                read_definitions(self._source_of(part.module) or "").read(part.name).text,
                f"{self._file(part.module)}:{part.lines[0]}",
            )
            for part in parts.definitions
        }

    def _source_of(self, module: str) -> str | None:
        return self._sources.get(self._file(module))

    def _file(self, module: str) -> str:
        stem = module.replace(".", "/")
        return f"{stem}.py" if f"{stem}.py" in self._sources else f"{stem}/__init__.py"


def _unversioned(package: str) -> str:
    # The requirements show for which versions a build was made.
    return ""


def said(text: str) -> str:
    """Return the code of a file without comments, layout and docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.unparse(tree)


def _without_frame(function: Function) -> list[ast.stmt]:
    """Remove the statements that read variables from the frame."""
    frame = function.args.args[0].arg
    return [
        stmt
        for stmt in function.body
        if not any(isinstance(n, ast.Name) and n.id == frame for n in ast.walk(stmt))
    ]


def _written(stmt: ast.stmt) -> list[str]:
    lines = ast.unparse(_Jumps().visit(stmt)).split("\n")
    return [line for line in lines if line.strip() != "pass"]


class _Jumps(ast.NodeTransformer):
    """Removes the name of the next block from a jump, since it is not part of the code.

    The arguments and the result of a helper are kept.
    """

    def visit_Return(self, node: ast.Return) -> ast.stmt:
        match node.value:
            case ast.Tuple(elts=[ast.Constant(value=str()), ast.Dict() as passed]):
                return ast.Expr(passed)
            case ast.Tuple(elts=[ast.Constant(value=str()), _]):
                return ast.Pass()
            case ast.Tuple(elts=[ast.Constant(value=None), result]):
                return ast.Return(result)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return node
