"""The nodes of a module by kind, collected in one pass.

A compilation queries each module many times: its imports, the attributes it assigns, the strings it
contains. Each query concerns few kinds of nodes. One pass sorts the nodes by kind and measures the
depth of the tree, so that no query walks the
tree again:

    index = NodeIndex(tree)
    index.of(ast.Global)              # every `global` statement, the outermost first
    index.imports                     # `import` and `from … import`, in the order of ast.walk
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from typing import TypeVar

from kitaru_compiler.ir.walk import FIELDS

Node = TypeVar("Node", bound=ast.AST)


class NodeIndex:
    """The nodes of `tree`, without operators and contexts, which are not code of their own.

    Nodes of one kind are in the order of `ast.walk`. `parents` contains the parent of each node.
    `too_deep` is a node at depth `limit`, if there is one.
    """

    def __init__(self, tree: ast.Module, limit: int) -> None:
        self.too_deep: ast.AST | None = None
        self.parents: dict[ast.AST, ast.AST] = {}
        # Both kinds of import share a list, because their order matters.
        self._found: defaultdict[type[ast.AST], list[ast.AST]] = defaultdict(list)
        self._found[ast.ImportFrom] = self._found[ast.Import]
        level: list[ast.AST] = [tree]
        depth = 0
        while level:
            if depth == limit:
                self.too_deep = next((node for node in level if hasattr(node, "lineno")), level[0])
                return
            level = self._next_level(level)
            depth += 1

    def _next_level(self, level: list[ast.AST]) -> list[ast.AST]:
        below: list[ast.AST] = []
        add, found, fields, parents = below.append, self._found, FIELDS, self.parents
        for node in level:
            kind = node.__class__
            found[kind].append(node)
            for name in fields[kind]:
                value = getattr(node, name, None)
                if value.__class__ is list:
                    for item in value:
                        if isinstance(item, ast.AST):
                            add(item)
                            parents[item] = node
                elif isinstance(value, ast.AST):
                    add(value)
                    parents[value] = node
        return below

    @cached_property
    def identifiers(self) -> frozenset[str]:
        """Every name that code of the module can read: variables, attributes, imported names."""
        found = {name.id for name in self.of(ast.Name)}
        found.update(attribute.attr for attribute in self.of(ast.Attribute))
        for statement in self.imports:
            for alias in statement.names:
                found.update(alias.name.split("."))
        return frozenset(found)

    def of(self, *kinds: type[Node]) -> Iterator[Node]:
        """Yield the nodes of these kinds, kind by kind."""
        for kind in kinds:
            yield from self._found[kind]  # type: ignore[misc]

    @property
    def imports(self) -> list[ast.Import | ast.ImportFrom]:
        """The import statements anywhere in the module."""
        return self._found[ast.Import]  # type: ignore[return-value]
