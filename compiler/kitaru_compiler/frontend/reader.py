"""Read the names that a module and its functions bind, with libcst.

libcst takes ten times as long as `ast`, so it reads as little as possible. For a module it reads a
skeleton, in which the bodies of definitions are `...`. For a function it reads the function's own
text when its scope is first needed. One pass over the tree collects the names. The scope provider
of libcst takes ten times as long as its parser.

    def outer(a):              outer: a, local, time
        from time import time
        local = 1

Callers pass only texts that `frontend.analysis` allows, from modules within the limits of
`frontend.source`: deeper code crashes libcst and the process.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any
from unicodedata import normalize

import libcst as cst

from kitaru_compiler.ir.scope import Bound

Definition = ast.FunctionDef | ast.AsyncFunctionDef
MAX_CHARACTERS = 50_000
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def read_module(tree: ast.Module, lines: Sequence[str]) -> Bound:
    """Return the bindings of a module's own scope; errors of libcst are passed through."""
    return _of_module(skeleton(tree, lines))


def read_function(definition: Definition, lines: Sequence[str]) -> Bound:
    """Return the bindings of a top-level function; errors of libcst are passed through."""
    return _of_function("".join(lines[definition.lineno - 1 : definition.end_lineno]))


# A process that compiles for several targets, or after each key press in an editor, reads the same
# texts again. They are stored here because parsing them takes a fifth of a compilation.
@lru_cache(maxsize=512)
def _of_module(text: str) -> Bound:
    return _Reader().read(_parsed(text).children)


@lru_cache(maxsize=512)
def _of_function(text: str) -> Bound:
    (statement, *_) = _parsed(text).body
    if not isinstance(statement, cst.FunctionDef):
        raise ValueError("the function is not the only statement of its lines")
    reader = _Reader()
    parameters = statement.params
    every = [*parameters.posonly_params, *parameters.params, *parameters.kwonly_params]
    every += [p for p in (parameters.star_arg, parameters.star_kwarg) if isinstance(p, cst.Param)]
    for parameter in every:
        reader.bind(parameter.name.value)
    return reader.read([statement.body])


def _parsed(text: str) -> cst.Module:
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"{len(text):,} characters are more than libcst reads in half a second")
    return cst.parse_module(text)


def skeleton(tree: ast.Module, lines: Sequence[str]) -> str:
    """Return a module's text with `...` for the bodies of its top-level definitions."""
    kept = list(lines)
    for stmt in tree.body:
        if not isinstance(stmt, _DEFINITIONS):
            continue
        first = stmt.body[0]
        start = min([first.lineno, *(d.lineno for d in getattr(first, "decorator_list", ()))])
        indent = kept[start - 1][: len(kept[start - 1]) - len(kept[start - 1].lstrip())]
        # A body on the line of its definition is short.
        if not indent or start <= stmt.lineno or kept[start - 2].rstrip().endswith("\\"):
            continue
        if start == first.lineno and kept[start - 1].encode()[: first.col_offset].strip():
            continue
        kept[start - 1 : stmt.end_lineno] = [f"{indent}...\n", *[""] * (stmt.end_lineno - start)]
    return "".join(kept)


class _Reader:
    """Collects the names of one scope; nested scopes bind names of their own."""

    def __init__(self) -> None:
        self._found = Bound({}, [])

    def bind(self, name: str, imported: str = "") -> None:
        # Python's parser normalises identifiers in the same way.
        name, imported = normalize("NFKC", name), normalize("NFKC", imported)
        places = self._found.names.setdefault(name, [])
        if imported not in places:
            places.append(imported)

    def leave_to_module(self, names: Iterable[str]) -> None:
        self._found.outside.extend(normalize("NFKC", name) for name in names)

    def read(self, nodes: Iterable[cst.CSTNode]) -> Bound:
        pending: list[Any] = list(nodes)
        while pending:
            node = pending.pop()
            look = _LOOK.get(type(node))
            if look is not None:
                pending += look(self, node)
            elif type(node) not in _PLAIN:
                pending += node.children
        return self._found

    def target(self, node: Any) -> list[Any]:
        """Bind the names of a target; return its other expressions."""
        pending, others = [node], []
        while pending:
            part = pending.pop()
            if isinstance(part, cst.Name):
                self.bind(part.value)
            elif isinstance(part, cst.Tuple | cst.List):
                pending += part.elements
            elif isinstance(part, cst.Element | cst.StarredElement):
                pending.append(part.value)
            else:
                others.append(part)
        return others


def _some(*nodes: Any) -> list[Any]:
    return [node for node in nodes if node is not None]


def _defaults(parameters: cst.Parameters) -> list[Any]:
    every = (*parameters.posonly_params, *parameters.params, *parameters.kwonly_params)
    return _some(*(parameter.default for parameter in every))


def _function(reader: _Reader, node: cst.FunctionDef) -> list[Any]:
    reader.bind(node.name.value)
    return [*(d.decorator for d in node.decorators), *_defaults(node.params)]


def _class(reader: _Reader, node: cst.ClassDef) -> list[Any]:
    reader.bind(node.name.value)
    arguments = (*node.bases, *node.keywords)
    return [*(d.decorator for d in node.decorators), *(argument.value for argument in arguments)]


def _lambda(_: _Reader, node: cst.Lambda) -> list[Any]:
    return _defaults(node.params)


def _assign(reader: _Reader, node: cst.Assign) -> list[Any]:
    return [node.value, *(part for t in node.targets for part in reader.target(t.target))]


def _annotated(reader: _Reader, node: cst.AnnAssign) -> list[Any]:
    return [*reader.target(node.target), node.annotation.annotation, *_some(node.value)]


def _with_value(reader: _Reader, node: cst.AugAssign | cst.NamedExpr) -> list[Any]:
    return [*reader.target(node.target), node.value]


def _for(reader: _Reader, node: cst.For) -> list[Any]:
    return [*reader.target(node.target), node.iter, node.body, *_some(node.orelse)]


def _comprehension(_: _Reader, node: cst.CompFor) -> list[Any]:
    """A comprehension has its own variables; an assignment expression in it binds outside."""
    targets = _Reader().target(node.target)
    return [*targets, node.iter, *(i.test for i in node.ifs), *_some(node.inner_for_in)]


def _as_name(reader: _Reader, node: cst.AsName) -> list[Any]:
    return reader.target(node.name)


def _del(reader: _Reader, node: cst.Del) -> list[Any]:
    return reader.target(node.target)


def _import(reader: _Reader, node: cst.Import) -> list[Any]:
    for alias in node.names:
        whole = _dotted(alias.name)
        first = whole.partition(".")[0]
        if alias.asname is None:
            reader.bind(first, first)
        else:
            reader.bind(_dotted(alias.asname.name), whole)
    return []


def _import_from(reader: _Reader, node: cst.ImportFrom) -> list[Any]:
    base = "." * len(node.relative) + (f"{_dotted(node.module)}." if node.module else "")
    if isinstance(node.names, cst.ImportStar):
        reader.bind("*", f"{base}*")
        return []
    for alias in node.names:
        name = _dotted(alias.name)
        reader.bind(_dotted(alias.asname.name) if alias.asname else name, base + name)
    return []


def _dotted(node: cst.BaseExpression) -> str:
    parts: list[str] = []
    while isinstance(node, cst.Attribute):
        parts.append(node.attr.value)
        node = node.value
    assert isinstance(node, cst.Name)
    return ".".join([node.value, *reversed(parts)])


def _global(reader: _Reader, node: cst.Global) -> list[Any]:
    reader.leave_to_module(item.name.value for item in node.names)
    return []


def _match_named(reader: _Reader, node: cst.MatchAs | cst.MatchStar) -> list[Any]:
    if node.name is not None:
        reader.bind(node.name.value)
    return _some(getattr(node, "pattern", None))


def _match_mapping(reader: _Reader, node: cst.MatchMapping) -> list[Any]:
    if node.rest is not None:
        reader.bind(node.rest.value)
    return list(node.elements)


def _type_alias(reader: _Reader, node: cst.TypeAlias) -> list[Any]:
    reader.bind(node.name.value)
    return []


# The child nodes in the same scope, after the node's own names are bound.
_LOOK: dict[type[cst.CSTNode], Callable[[_Reader, Any], list[Any]]] = {
    cst.FunctionDef: _function,
    cst.ClassDef: _class,
    cst.Lambda: _lambda,
    cst.Assign: _assign,
    cst.AnnAssign: _annotated,
    cst.AugAssign: _with_value,
    cst.NamedExpr: _with_value,
    cst.For: _for,
    cst.CompFor: _comprehension,
    cst.AsName: _as_name,
    cst.Del: _del,
    cst.Import: _import,
    cst.ImportFrom: _import_from,
    cst.Global: _global,
    cst.MatchAs: _match_named,
    cst.MatchStar: _match_named,
    cst.MatchMapping: _match_mapping,
    cst.TypeAlias: _type_alias,
}
# Nodes that bind nothing and have no children that do.
_PLAIN = frozenset({
    cst.Name, cst.SimpleWhitespace, cst.TrailingWhitespace, cst.EmptyLine, cst.Newline, cst.Comment,
    cst.ParenthesizedWhitespace, cst.SimpleString, cst.Integer, cst.Float, cst.Imaginary, cst.Comma,
    cst.Dot, cst.AssignEqual, cst.LeftParen, cst.RightParen, cst.LeftSquareBracket, cst.Pass,
    cst.RightSquareBracket, cst.LeftCurlyBrace, cst.RightCurlyBrace, cst.Break, cst.Continue,
    cst.Ellipsis, cst.Colon, cst.Semicolon, cst.Nonlocal,
})  # fmt: skip
