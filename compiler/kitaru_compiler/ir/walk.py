"""Walk syntax trees, skipping nodes that are not code of their own.

`ast.walk` and `ast.iter_child_nodes` also yield operators and contexts, which are nearly half of a
tree, and check every field of a node. A compilation walks its trees many times:

    walk(tree)         # the nodes of `tree`, in the order of `ast.walk`
    children(node)     # the nodes directly below `node`, in their order
    is_same(a, b)      # whether two trees are the same code, as `ast.dump` writes it
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

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


def is_same(one: ast.AST, other: ast.AST) -> bool:
    """Return whether two trees differ at most in positions: `ast.dump` writes the same for both."""
    if one.__class__ is not other.__class__:
        return False
    for name in one._fields:
        left: Any = getattr(one, name, None)
        right: Any = getattr(other, name, None)
        if left is right:
            continue
        if left.__class__ is not right.__class__:
            return False
        if isinstance(left, ast.AST):
            if not is_same(left, right):
                return False
        elif left.__class__ is list:
            if len(left) != len(right) or not all(map(_is_same_item, left, right)):
                return False
        # Equal numbers, such as 0.0 and -0.0, may be different code.
        elif repr(left) != repr(right):
            return False
    return True


def _is_same_item(left: object, right: object) -> bool:
    if isinstance(left, ast.AST) and isinstance(right, ast.AST):
        return is_same(left, right)
    return repr(left) == repr(right)
