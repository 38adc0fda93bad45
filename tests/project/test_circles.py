"""No modules import each other in a circle, not even for the type checker alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from .conftest import ROOT

PACKAGES = {
    "kitaru": ROOT / "kitaru",
    "kitaru_compiler": ROOT / "compiler" / "kitaru_compiler",
    "kitaru_targets": ROOT / "targets" / "kitaru_targets",
    "kitaru_templates": ROOT / "templates" / "kitaru_templates",
}


@cache
def modules() -> dict[str, Path]:
    """Return the file of each module of the project."""
    found = {}
    for package, root in PACKAGES.items():
        for path in root.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join([package, *(p for p in parts if p != "__init__")])] = path
    return found


def imports(name: str) -> Iterator[str]:
    """Yield the modules of the project that a module imports anywhere in it."""
    path = modules()[name]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from filter(None, (nearest(alias.name) for alias in node.names))
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *filter(None, [node.module])]
            for alias in node.names:
                yield from filter(None, [nearest(".".join([*base, alias.name]))])


def nearest(name: str) -> str:
    """Return the module that a dotted name means or belongs to, empty for no module of ours."""
    while name and name not in modules():
        name = name.rpartition(".")[0]
    return name


def circles(graph: dict[str, set[str]]) -> Iterator[frozenset[str]]:
    """Yield the largest sets of modules in which each one reaches each other one."""
    graph = {name: set(uses) - {name} for name, uses in graph.items()}
    while True:
        try:
            TopologicalSorter(graph).prepare()
            return
        except CycleError as error:
            start = error.args[1][0]
        there, back = reached(graph, start), reached(reverse(graph), start)
        circle = frozenset(there & back)
        yield circle
        for name in circle:
            graph[name] -= circle


def reached(graph: dict[str, set[str]], start: str) -> set[str]:
    """Return the modules that are reached from one, itself included."""
    seen, pending = {start}, [start]
    while pending:
        new = graph[pending.pop()] - seen
        seen |= new
        pending += new
    return seen


def reverse(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {name: set() for name in graph}
    for name, uses in graph.items():
        for used in uses:
            found[used].add(name)
    return found


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"e"}, "e": {"d"}, "f": {"a"}}
    assert set(circles(graph)) == {frozenset("abc"), frozenset("de")}


def test_no_modules_import_each_other() -> None:
    graph = {name: set(imports(name)) for name in modules()}
    assert sum(map(len, graph.values())) > 1500
    assert list(map(sorted, circles(graph))) == []
