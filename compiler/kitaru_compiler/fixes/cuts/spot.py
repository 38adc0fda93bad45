"""The place of an uncut region in its file, and the changes proposed for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import libcst as cst

from kitaru.wire.plan import Span
from kitaru_compiler.fixes.module import Edits, Module, N, Statement

Position = tuple[int, int, int, int]


@dataclass(frozen=True)
class Candidate:
    """A change that may make a cut possible.

    `what` describes it as an instruction. `meaning` is what changes for the flow, empty if its
    meaning stays the same.
    """

    what: str
    meaning: str
    edits: Edits


@dataclass(frozen=True)
class Spot:
    """A region in its file.

    `span` contains all its statements and `at` the construct that keeps them together. `calls` are
    the positions of its durable calls, and `submits` those that submit.
    """

    module: Module
    span: Span
    at: Span
    calls: frozenset[Position]
    submits: frozenset[Position] = frozenset()

    def durable(self, *nodes: cst.CSTNode) -> list[cst.Call]:
        """Return the durable calls inside nodes, in source order."""
        found = [call for call in self.module.inside(cst.Call, *nodes) if self.is_durable(call)]
        return sorted(found, key=self.module.position)

    def constructs(self, *kinds: type[N]) -> list[N]:
        """Return the nodes of some kinds in the construct, outermost first."""
        first, last = (self.at.line, self.at.column), (self.at.end_line, self.at.end_column)
        found = []
        for node in self.module.every(*kinds):
            line, column, end_line, end_column = self.module.position(node)
            if first <= (line, column) and (end_line, end_column) <= last:
                found.append(node)
        return sorted(found, key=self._size)

    def _size(self, node: cst.CSTNode) -> tuple[int, int, int, int]:
        line, column, end_line, end_column = self.module.position(node)
        return line, column, -end_line, -end_column

    def is_durable(self, call: cst.CSTNode) -> bool:
        """Return whether a node is itself a durable call."""
        return self.module.position(call) in self.calls

    def is_submit(self, node: cst.CSTNode) -> bool:
        """Return whether a node contains a submit."""
        calls = self.module.inside(cst.Call, node)
        return any(self.module.position(call) in self.submits for call in calls)

    def statement(self) -> Statement | None:
        """Return the first statement of the region, as a whole line."""
        return self.module.whole(self.module.statement(self.span))

    def block(self) -> list[Statement]:
        """Return all statements of the block that contains the region."""
        first = self.statement()
        return [] if first is None else statements_of(self.module.parent(first))

    def region(self) -> list[Statement]:
        """Return the statements of the region."""
        last = self.span.end_line
        block, first = self.block(), self.statement()
        start = next((n for n, one in enumerate(block) if one is first), len(block))
        return [one for one in block[start:] if self.module.line(one) <= last]


Changer = Callable[[Spot], Iterator[Candidate]]
"""Yields the changes to try for a region, the preferred one first."""


def statements_of(block: cst.CSTNode) -> list[Statement]:
    """Return the statements of a block, also of one on the line of its colon."""
    match block:
        case cst.IndentedBlock(body=body) | cst.Module(body=body):
            return [cast(Statement, one) for one in body]
        case cst.SimpleStatementSuite(body=small):
            return [cst.SimpleStatementLine([one]) for one in small]
    return []


def exchanged(stmt: Statement, old: cst.CSTNode, new: cst.BaseExpression) -> Statement:
    """Return a statement with an expression inside it replaced."""
    return cast(Statement, stmt.deep_replace(old, cast(cst.CSTNode, new)))


def compound(
    header: str,
    body: Sequence[Statement],
    leading: Sequence[cst.EmptyLine] = (),
) -> cst.BaseCompoundStatement:
    """Return a compound statement: `compound("for _ in range(3)", statements)`."""
    made = cst.parse_statement(f"{header}:\n    pass\n")
    assert isinstance(made, cst.BaseCompoundStatement)
    first, *others = body
    inner = [first.with_changes(leading_lines=comments_of(first.leading_lines)), *others]
    return made.with_changes(body=cst.IndentedBlock(inner), leading_lines=leading)


def comments_of(leading: Sequence[cst.EmptyLine]) -> list[cst.EmptyLine]:
    """Return the lines before a statement, from the first comment on."""
    lines = list(leading)
    while lines and not lines[0].comment:
        lines.pop(0)
    return lines


def line(text: str, leading: Sequence[cst.EmptyLine] = ()) -> cst.SimpleStatementLine:
    """Return a line of code as a statement."""
    made = cst.parse_statement(text)
    assert isinstance(made, cst.SimpleStatementLine)
    return made.with_changes(leading_lines=leading)


def replaced(old: Statement, *new: Statement) -> Edits:
    """Return the edit that puts statements in the place of one; without any, it is removed."""
    return Edits().put(old, *new) if new else Edits().remove(old)


def only(node: cst.CSTNode | None) -> cst.BaseSmallStatement | None:
    """Return the only small statement of a line."""
    if isinstance(node, cst.SimpleStatementLine) and len(node.body) == 1:
        return node.body[0]
    return None
