"""Decides where blocks begin and how control goes from one to the next, always forward.

A block begins at the entry, at each durable call or region, and at each join after a branch that
holds one. Every statement appears once, whatever the granularity.
"""

from __future__ import annotations

import ast
import copy
import keyword
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from kitaru.wire.plan import BlockKind
from kitaru_compiler.ir.build import at
from kitaru_compiler.ir.nodes import (
    Code,
    Durable,
    DurableCall,
    FlowIR,
    If,
    Node,
    Region,
    Return,
)
from kitaru_compiler.ir.scope import own_nodes

After = Callable[[ast.AST], list[ast.stmt]]


@dataclass(slots=True)
class Jump:
    """The end of a block: on to `target`, or the end of the flow with a value."""

    target: DraftBlock | None


@dataclass(slots=True)
class DraftBlock:
    """A block being made: its statements, and where the source of its durable call lies."""

    kind: BlockKind
    place: ast.AST
    calls: list[DurableCall] = field(default_factory=list)
    region: Region | None = None
    name: str = ""
    index: int = -1
    body: list[ast.stmt] = field(default_factory=list)

    @property
    def may_wait(self) -> bool:
        return any(call.may_wait for call in self.calls)

    @property
    def next(self) -> list[DraftBlock | None]:
        """Every possible successor, in program order, None for the end."""
        found = {id(jump.target): jump.target for stmt in self.body for jump in jumps(stmt)}
        targets = [target for target in found.values() if target is not None]
        ordered: list[DraftBlock | None] = [*sorted(targets, key=lambda block: block.index)]
        return [*ordered, None] if len(targets) < len(found) else ordered


@dataclass(slots=True)
class Place:
    """Where a block stands in the flow's structure; the layout of steps is made from these."""

    block: DraftBlock


@dataclass(slots=True)
class Fork:
    """A branch of the flow's structure, its arms in the order of the source.

    `ends` says of each arm whether the flow surely ends in it.
    """

    place: ast.AST
    arms: list[list[Place | Fork]]
    ends: tuple[bool, bool]

    @property
    def certain(self) -> bool:
        """Whether control reaches the arm that holds something whenever the flow goes on."""
        return any(ends and not arm for arm, ends in zip(self.arms, self.ends, strict=True))


def jumps(stmt: ast.AST) -> list[Jump]:
    """Return the ends of the block inside a statement of its body."""
    found = [getattr(node, "jump", None) for node in own_nodes(stmt)]
    return [jump for jump in found if jump is not None]


def build_blocks(ir: FlowIR) -> tuple[list[DraftBlock], list[Place | Fork]]:
    """Return the blocks in program order, named, and the structure they stand in."""
    builder = _Builder()
    entry = builder.new("entry", ir.definition)
    entry.body, structure = builder.emit(ir.body, _end_of_flow)
    _name(builder.blocks, ir)
    return builder.blocks, structure


@dataclass
class _Builder:
    blocks: list[DraftBlock] = field(default_factory=list)

    def new(self, kind: BlockKind, place: ast.AST) -> DraftBlock:
        block = DraftBlock(kind, place)
        self.number(block)
        return block

    def number(self, block: DraftBlock) -> None:
        block.index = len(self.blocks)
        self.blocks.append(block)

    def emit(self, nodes: list[Node], after: After) -> tuple[list[ast.stmt], list[Place | Fork]]:
        """Return the statements of the current block's tail, and the structure of what follows."""
        first: list[ast.stmt] = []
        structure: list[Place | Fork] = []
        tail, arm, last = first, structure, nodes[-1:]
        pending = deque(nodes)
        while pending:
            node = pending.popleft()
            last = [node]
            match node:
                case Code(stmt):
                    tail.append(with_returns(stmt))
                    if isinstance(stmt, ast.Raise):
                        return first, structure
                case Return(stmt):
                    tail.append(end(stmt, stmt.value))
                    return first, structure
                case Durable() | Region():
                    block = self._durable(node)
                    tail.append(jump_to(block)(block.place))
                    arm.append(Place(block))
                    tail = block.body
                    if _ends(tail[-1]):
                        return first, structure
                case If(body=body) if pending and _surely_ends(body):
                    # What follows stands beside the branch, not in its other arm: a hundred early
                    # returns must not nest a hundred levels deep.
                    pending.extendleft(reversed(node.orelse))
                    arm = self._early_end(node, list(pending)[-1:], tail, arm, after)
                case If():
                    join = self._branch(node, pending, tail, arm, after)
                    if join is None:
                        return first, structure
                    tail = join.body
        tail += after(_source(last[0]) if last else ast.Pass())
        return first, structure

    def _durable(self, node: Durable | Region) -> DraftBlock:
        if isinstance(node, Durable):
            block = self.new(_kind(node.call), node.stmt)
            block.calls = [node.call]
            block.body = [with_returns(node.stmt)]
            return block
        block = self.new("region", node.stmts[0])
        block.calls, block.region = node.calls, node
        block.body = [with_returns(stmt) for stmt in node.stmts]
        return block

    def _early_end(
        self,
        node: If,
        final: list[Node],
        tail: list[ast.stmt],
        arm: list[Place | Fork],
        after: After,
    ) -> list[Place | Fork]:
        """Add a branch whose body ends the flow; return the structure that the rest goes into."""
        stmts, structure = self.emit(node.body, after)
        tail.append(at(node.source, ast.If(node.test, stmts, [])))
        rest: list[Place | Fork] = []
        arm.append(Fork(node.source, [structure, rest], (True, _surely_ends(final))))
        return rest

    def _branch(
        self,
        node: If,
        pending: deque[Node],
        tail: list[ast.stmt],
        arm: list[Place | Fork],
        after: After,
    ) -> DraftBlock | None:
        """Add a branch; return the block where its arms join, if anything is left for it."""
        body = node.body
        if pending and _surely_ends(node.orelse):
            body = [*body, *pending]
            pending.clear()
        join = DraftBlock("join", _source(pending[0])) if pending else None
        then = jump_list(join) if join else after
        stmts, structure = self.emit(body, then)
        else_stmts, else_structure = self.emit(node.orelse, then)
        ends = (_surely_ends(body), _surely_ends(node.orelse))
        arm.append(Fork(node.source, [structure, else_structure], ends))
        tail.append(at(node.source, ast.If(node.test, stmts, else_stmts)))
        if join:
            self.number(join)
        return join


def _kind(call: DurableCall) -> BlockKind:
    match call.kind:
        case "checkpoint" | "llm" | "wait" | "log":
            return call.kind
    return "region"


def _source(node: Node) -> ast.AST:
    match node:
        case If(source=source):
            return source
        case Region(stmts):
            return stmts[0]
        case Code(stmt) | Durable(stmt) | Return(stmt):
            return stmt


def _end_of_flow(place: ast.AST) -> list[ast.stmt]:
    return [end(place if hasattr(place, "lineno") else None, None)]


def jump_list(block: DraftBlock) -> After:
    """Return what ends an arm that goes on at `block`."""
    return lambda place: [jump_to(block)(place)]


def jump_to(block: DraftBlock) -> Callable[[ast.AST], ast.stmt]:
    """Return what makes the statement `return <block>, locals()`."""

    def make(place: ast.AST) -> ast.stmt:
        source = place if hasattr(place, "lineno") else block.place
        value = ast.Tuple(
            [ast.Constant(""), ast.Call(ast.Name("locals", ast.Load()), [], [])], ast.Load()
        )
        stmt = at(source, ast.Return(value))
        stmt.jump = Jump(block)  # type: ignore[attr-defined]
        return stmt

    return make


def end(place: ast.AST | None, value: ast.expr | None) -> ast.stmt:
    """Return the statement `return None, <value>`."""
    pair = ast.Tuple([ast.Constant(None), value or ast.Constant(None)], ast.Load())
    stmt = ast.Return(pair)
    stmt = at(place, stmt) if place is not None else ast.fix_missing_locations(stmt)
    stmt.jump = Jump(None)  # type: ignore[attr-defined]
    return stmt


def with_returns(stmt: ast.stmt) -> ast.stmt:
    """Turn every `return x` of the flow inside `stmt` into the end of a block."""
    if not any(isinstance(node, ast.Return) for node in own_nodes(stmt)):
        return stmt
    changed = _Returns().visit(stmt)
    assert isinstance(changed, ast.stmt)
    return changed


class _Returns(ast.NodeTransformer):
    """Copies what it changes; nested functions and classes keep their own returns."""

    def visit_Return(self, node: ast.Return) -> ast.stmt:
        return end(node, node.value)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        return super().generic_visit(copy.copy(node))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return node


def _ends(stmt: ast.stmt) -> bool:
    return isinstance(stmt, ast.Return | ast.Raise)


def _surely_ends(nodes: list[Node]) -> bool:
    if not nodes:
        return False
    match nodes[-1]:
        case Return():
            return True
        case Code(stmt) | Durable(stmt):
            return _ends(stmt)
        case If(body=body, orelse=orelse):
            return _surely_ends(body) and _surely_ends(orelse)
    return False


def _name(blocks: list[DraftBlock], ir: FlowIR) -> None:
    """Name each block for what it does: letters, digits and single underscores, unique."""
    taken = {ir.name}
    for block in blocks:
        base = _hint(block)
        name, number = base, 1
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        block.name = name


def _hint(block: DraftBlock) -> str:
    if block.kind in ("entry", "join"):
        return "start" if block.kind == "entry" else "join"
    named = [_wait_name(block)] if block.kind == "wait" else []
    distinct = [n for n in named if n] or list(
        dict.fromkeys(name for call in block.calls for name in call.records)
    )
    words = "_".join(distinct[:3]) if block.kind != "region" or len(distinct) <= 3 else "region"
    clean = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
    name = clean[:50].strip("_") if clean[:1].isalpha() else "region"
    return f"{name}_step" if keyword.iskeyword(name) else name


def _wait_name(block: DraftBlock) -> str:
    """Return the literal name of a wait, which says more than `wait`."""
    if block.kind != "wait":
        return ""
    call = getattr(block.place, "value", None)
    for given in call.keywords if isinstance(call, ast.Call) else []:
        if given.arg == "name" and isinstance(given.value, ast.Constant):
            return str(given.value.value)
    return ""
