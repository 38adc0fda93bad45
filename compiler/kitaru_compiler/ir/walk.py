"""Walk syntax trees, skipping nodes that are not code of their own.

`ast.walk` and `ast.iter_child_nodes` also yield operators and contexts, which are nearly half of a
tree, and check every field of a node. A compilation walks its trees many times:

    walk(tree)         # the nodes of `tree`, in the order of `ast.walk`
    children(node)     # the nodes directly below `node`, in their order
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

# Fields that contain names, flags and operators, which no caller needs.
_PLAIN = frozenset({
    "arg", "asname", "attr", "conversion", "ctx", "id", "is_async", "kind", "level", "lineno",
    "module", "op", "ops", "simple", "tag", "type_comment",
})  # fmt: skip


class _Fields(dict[type[ast.AST], tuple[str, ...]]):
    """The fields of each node type, including types defined by a pass."""

    def __missing__(self, kind: type[ast.AST]) -> tuple[str, ...]:
        self[kind] = tuple(name for name in kind._fields if name not in _PLAIN)
        return self[kind]


FIELDS = _Fields()


def children(node: ast.AST) -> list[ast.AST]:
    """Return the nodes directly below `node`, without operators and contexts."""
    found: list[ast.AST] = []
    for name in FIELDS[node.__class__]:
        value = getattr(node, name, None)
        if value.__class__ is list:
            found += [item for item in value if isinstance(item, ast.AST)]
        elif isinstance(value, ast.AST):
            found.append(value)
    return found


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yield `node` and the nodes below it, level by level."""
    level = [node]
    for found in level:
        level += children(found)
        yield found
