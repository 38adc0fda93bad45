"""One source file as a tree that can be edited, and the edits of a fix.

All edits of a round are applied in one walk, from the leaves upwards. An edit is a function from
the node, as changed by inner edits, to its replacement. Inner edits are therefore preserved.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar, cast

import libcst as cst
from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider

from kitaru.wire.plan import Span
from kitaru_compiler.diagnostics.model import Diagnostic

N = TypeVar("N", bound=cst.CSTNode)
Change = Callable[
    [cst.CSTNode], "cst.CSTNode | cst.FlattenSentinel[cst.CSTNode] | cst.RemovalSentinel"
]
Statement = cst.SimpleStatementLine | cst.BaseCompoundStatement
_DEFINITIONS = (cst.FunctionDef, cst.ClassDef, cst.Lambda)


class Unreadable(Exception):
    """libcst cannot read a text that Python accepts."""


@dataclass
class Edits:
    """The changes of one fix: replacements of nodes, and statements before top-level statements.

    `names` are the names and strings that it adds to the file. `imported` are the names of Kitaru
    that the file must import, such as `checkpoint` or `adapters.langgraph.KitaruMiddleware`.
    """

    replaced: dict[cst.CSTNode, Change] = field(default_factory=dict)
    before: dict[cst.CSTNode, list[Statement]] = field(default_factory=dict)
    imported: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)

    def replace(self, node: N, change: Callable[[N], cst.CSTNode]) -> Edits:
        """Replace a node by the result of `change`."""
        self.replaced[node] = cast(Change, change)
        return self

    def put(self, node: cst.CSTNode, *new: cst.CSTNode) -> Edits:
        """Replace a node by others, which contain the text of the node as it was."""
        self.replaced[node] = lambda _: new[0] if len(new) == 1 else cst.FlattenSentinel(new)
        return self

    def remove(self, *nodes: cst.CSTNode) -> Edits:
        """Remove statements, lines or other removable nodes."""
        for node in nodes:
            self.replaced[node] = lambda _: cst.RemoveFromParent()
        return self

    def put_before(self, node: Statement, *statements: Statement) -> Edits:
        """Insert statements before a top-level statement."""
        self.before.setdefault(node, []).extend(statements)
        return self

    def overlaps(self, other: Edits) -> bool:
        """Return whether both replace one node or add one name, or either replaces the module."""
        if not self.names.isdisjoint(other.names):
            return True
        whole = any(isinstance(node, cst.Module) for node in (*self.replaced, *other.replaced))
        return whole or not self.replaced.keys().isdisjoint(other.replaced)

    def add(self, other: Edits) -> None:
        """Add the edits of another fix."""
        self.replaced |= other.replaced
        for node, statements in other.before.items():
            self.before.setdefault(node, []).extend(statements)
        self.imported |= other.imported
        self.names |= other.names


class Module:
    """A source file that fixes inspect and change.

    Raises:
        Unreadable: libcst rejects the text, or does not reproduce it.

    Example:
        module = Module(text)
        call = module.at(finding.span, cst.Call)
    """

    def __init__(self, text: str) -> None:
        try:
            parsed = cst.parse_module(text)
        except (cst.ParserSyntaxError, RecursionError) as error:
            raise Unreadable(str(error)) from None
        if parsed.code != text:
            raise Unreadable("the text is not reproduced")
        self.text = text
        self._wrapper = MetadataWrapper(parsed)
        self.tree = self._wrapper.module
        self._parents = self._wrapper.resolve(ParentNodeProvider)
        self._positions = self._wrapper.resolve(PositionProvider)

    # Find.

    @cached_property
    def _by_start(self) -> dict[tuple[int, int], list[cst.CSTNode]]:
        found: dict[tuple[int, int], list[cst.CSTNode]] = {}
        for node, place in self._positions.items():
            found.setdefault((place.start.line, place.start.column + 1), []).append(node)
        return found

    def starting(self, span: Span, *kinds: type[N]) -> Iterator[N]:
        """Yield the nodes of some kinds that start at the start of a span, outermost first."""
        nodes = [
            n for n in self._by_start.get((span.line, span.column), ()) if isinstance(n, kinds)
        ]
        yield from sorted(nodes, key=lambda node: -self._end(node)[0] * 10_000 - self._end(node)[1])

    def at(self, span: Span, *kinds: type[N]) -> N | None:
        """Return the outermost node of some kinds at exactly a span, or None."""
        end = (span.end_line, span.end_column)
        return next((n for n in self.starting(span, *kinds) if self._end(n) == end), None)

    def statement(self, span: Span) -> cst.BaseSmallStatement | cst.BaseCompoundStatement | None:
        """Return the statement that starts at the start of a span."""
        kinds = (cst.BaseSmallStatement, cst.BaseCompoundStatement)
        nodes = self._by_start.get((span.line, span.column), ())
        return next((node for node in nodes if isinstance(node, kinds)), None)

    def _end(self, node: cst.CSTNode) -> tuple[int, int]:
        end = self._positions[node].end
        return end.line, end.column + 1

    def line(self, node: cst.CSTNode) -> int:
        """Return the line that a node starts on, from 1."""
        return self._positions[node].start.line

    def is_on(self, node: cst.CSTNode, line: int) -> bool:
        """Return whether a part of a node is on a line, counted from 1."""
        place = self._positions[node]
        return place.start.line <= line <= place.end.line

    def position(self, node: cst.CSTNode) -> tuple[int, int, int, int]:
        """Return the position of a node as a `Span` counts: line, column, last line, end column."""
        start = self._positions[node].start
        return start.line, start.column + 1, *self._end(node)

    def whole(self, node: cst.CSTNode | None) -> Statement | None:
        """Return the statement with its line end and comment, for one that is alone on its line."""
        if isinstance(node, cst.BaseSmallStatement):
            node = self.parent(node)
            if not isinstance(node, cst.SimpleStatementLine) or len(node.body) > 1:
                return None
        return node if isinstance(node, Statement) else None

    def every(self, *kinds: type[N]) -> Iterator[N]:
        """Yield all nodes of some kinds."""
        yield from (node for node in self._positions if isinstance(node, kinds))

    def inside(self, kind: type[N], *nodes: cst.CSTNode) -> Iterator[N]:
        """Yield the nodes of a kind inside some nodes, and those nodes themselves, in any order."""
        pending = list(nodes)
        while pending:
            node = pending.pop()
            if isinstance(node, kind):
                yield node
            pending += node.children

    def mentioned(self, *nodes: cst.CSTNode) -> set[str]:
        """Return the names inside some nodes, except attributes and the names of arguments."""
        return {name.value for node in nodes for name in self.inside(cst.Name, node)
                if self._is_variable(name)}  # fmt: skip

    def _is_variable(self, name: cst.Name) -> bool:
        around = self._parents.get(name)
        if isinstance(around, cst.Attribute):
            return around.value is name
        return not (isinstance(around, cst.Arg) and around.keyword is name)

    def parent(self, node: cst.CSTNode) -> cst.CSTNode:
        """Return the parent of a node; a module has none."""
        return self._parents[node]

    def around(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """Yield the ancestors of a node, innermost first, the module last."""
        while node in self._parents and not isinstance(node, cst.Module):
            node = self._parents[node]
            yield node

    def function(self, node: cst.CSTNode) -> cst.FunctionDef | None:
        """Return the innermost enclosing function of a node."""
        return next((n for n in self.around(node) if isinstance(n, cst.FunctionDef)), None)

    def top(self, node: cst.CSTNode) -> Statement:
        """Return the top-level statement that contains a node."""
        chain = [node, *self.around(node)]
        return cast(Statement, chain[-2])

    # Names.

    @cached_property
    def names(self) -> frozenset[str]:
        """Every name in the file, except attributes."""
        return frozenset(
            node.value
            for node in self.every(cst.Name)
            if not isinstance(around := self.parent(node), cst.Attribute) or around.value is node
        )

    @cached_property
    def texts(self) -> frozenset[str]:
        """Every string of the file."""
        values = (node.evaluated_value for node in self.every(cst.SimpleString))
        return frozenset(value for value in values if isinstance(value, str))

    def fresh(self, name: str) -> str:
        """Return `name`, with a number appended if the file already uses it."""
        return unused(name, self.names)

    def code(self, node: cst.CSTNode) -> str:
        """Return the source of a node."""
        return self.tree.code_for_node(node)

    def spelled(self, name: str) -> tuple[str, set[str]]:
        """Return the file's spelling of a name of Kitaru, and the import that it requires."""
        for statement in self.every(cst.ImportFrom):
            if self._top_level(statement) and dotted(statement.module) == "kitaru":
                for alias in (
                    statement.names if not isinstance(statement.names, cst.ImportStar) else ()
                ):
                    if dotted(alias.name) == name:
                        return alias.evaluated_alias or name, set()
        for plain in self.every(cst.Import):
            for alias in plain.names if self._top_level(plain) else ():
                if dotted(alias.name) == "kitaru":
                    return f"{alias.evaluated_alias or 'kitaru'}.{name}", set()
        return name, {name}

    def _top_level(self, node: cst.CSTNode) -> bool:
        return isinstance(self.parent(self.parent(node)), cst.Module)

    # Change.

    def edited(self, edits: Edits) -> str:
        """Return the text with edits applied."""
        tree = self.tree.visit(_Editor(edits))
        return (_with_imports(tree, edits.imported) if edits.imported else tree).code


class _Editor(cst.CSTTransformer):
    def __init__(self, edits: Edits) -> None:
        super().__init__()
        self._edits = edits

    def on_leave(self, original_node: cst.CSTNode, updated_node: cst.CSTNode) -> cst.CSTNode:  # type: ignore[override]
        result: object = updated_node
        if change := self._edits.replaced.get(original_node):
            result = change(updated_node)
        if statements := self._edits.before.get(original_node):
            result = cst.FlattenSentinel([*statements, cast(cst.CSTNode, result)])
        return cast(cst.CSTNode, result)


def unused(name: str, taken: Iterable[str]) -> str:
    """Return `name`, with the first number appended that makes it differ from `taken`."""
    known, result, number = set(taken), name, 1
    while result in known:
        number += 1
        result = f"{name}_{number}"
    return result


def dotted(node: cst.CSTNode | None) -> str:
    """Return the source of a name or a chain of attributes, empty for other nodes."""
    match node:
        case cst.Name(value=name):
            return name
        case cst.Attribute(value=value, attr=cst.Name(value=name)):
            before = dotted(value)
            return f"{before}.{name}" if before else ""
    return ""


def expression(text: str) -> cst.BaseExpression:
    """Parse a text as an expression."""
    return cst.parse_expression(text)


def statements(text: str) -> list[Statement]:
    """Parse a text as top-level statements, keeping blank lines before the first."""
    parsed = cst.parse_module(text)
    found = list(parsed.body)
    if parsed.header:
        found[0] = found[0].with_changes(leading_lines=[*parsed.header, *found[0].leading_lines])
    return found


def bare(node: cst.CSTNode, text: str) -> ast.AST:
    """Return the `ast` tree of a node whose source is `text`."""
    return ast.parse(text.strip("\n") if isinstance(node, Statement) else f"({text})")


def _with_imports(tree: cst.Module, names: Iterable[str]) -> cst.Module:
    """Add imports of names of Kitaru to a module, after its docstring and `__future__`."""
    by_module: dict[str, set[str]] = {}
    for name in names:
        module, _, last = f"kitaru.{name}".rpartition(".")
        by_module.setdefault(module, set()).add(last)
    for module, wanted in sorted(by_module.items()):
        tree = _with_import(tree, module, wanted)
    return tree


def _with_import(tree: cst.Module, module: str, names: set[str]) -> cst.Module:
    for number, statement in enumerate(tree.body):
        inner = statement.body[0] if isinstance(statement, cst.SimpleStatementLine) else None
        if isinstance(inner, cst.ImportFrom) and dotted(inner.module) == module:
            if isinstance(inner.names, cst.ImportStar):
                return tree
            present = {dotted(alias.name) for alias in inner.names}
            comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
            missing = sorted(names - present)
            # Insert before the other names: the text after the last one depends on parentheses.
            added = [cst.ImportAlias(cst.Name(name), comma=comma) for name in missing]
            listed = [*added, *inner.names]
            line = statement.with_deep_changes(inner, names=listed)
            return tree.with_changes(body=[*tree.body[:number], line, *tree.body[number + 1 :]])
    made = statements(f"from {module} import {', '.join(sorted(names))}\n")
    at = _behind_the_head(tree.body)
    return tree.with_changes(body=[*tree.body[:at], *made, *tree.body[at:]])


def _behind_the_head(body: Sequence[cst.CSTNode]) -> int:
    """Return the position for a file's first import: after the last import at its head."""
    at = 0
    for number, statement in enumerate(body):
        inner = statement.body[0] if isinstance(statement, cst.SimpleStatementLine) else None
        docstring = isinstance(inner, cst.Expr) and isinstance(inner.value, cst.SimpleString)
        if isinstance(inner, cst.Import | cst.ImportFrom) or (number == 0 and docstring):
            at = number + 1
        else:
            break
    return at


Fixer = Callable[[Module, Diagnostic], "Edits | None"]
"""Returns the edits that make a finding disappear, None if that is impossible."""
