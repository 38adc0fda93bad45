"""Divide a flow into blocks, with control that only moves forward.

A block starts at the entry, at each durable call or region, at each join after a branch that
contains a durable call or region, and at the entry and exit of a helper. Every statement appears in
exactly one block, at any granularity.
"""

from __future__ import annotations

import ast
from collections import deque
from dataclasses import dataclass, field

from kitaru.wire.plan import BlockKind, Span
from kitaru_compiler.cut.basic_blocks import DraftBlock, Fork, Place
from kitaru_compiler.cut.names import name_blocks
from kitaru_compiler.cut.terminators import (
    After,
    Leave,
    call,
    end,
    goes_on_at,
    jump,
    leaves,
    result_to,
    with_jumps,
)
from kitaru_compiler.ir.build import at
from kitaru_compiler.ir.exits import escapes
from kitaru_compiler.ir.nodes import (
    Activation,
    Code,
    Durable,
    DurableCall,
    Exit,
    Fan,
    FlowIR,
    If,
    Inline,
    Node,
    Region,
    Return,
    Scope,
)
from kitaru_compiler.ir.scope import own_nodes, read_names


def build_blocks(ir: FlowIR) -> tuple[list[DraftBlock], list[Place | Fork]]:
    """Return the named blocks in program order, and their structure."""
    builder = _Builder([], Activation("", ir), end)
    entry = builder.new("entry", ir.definition)
    entry.body, structure = builder.emit(ir.body, leaves(end))
    name_blocks(builder.blocks, ir)
    return builder.blocks, structure


@dataclass
class _Builder:
    """Builds the blocks of one function's body. All bodies share one numbering.

    `leave` creates the end of code that returns. `leaving` creates, by label, the end of code that
    leaves a scope.
    """

    blocks: list[DraftBlock]
    activation: Activation
    leave: Leave
    leaving: dict[str, After] = field(default_factory=dict)

    def new(self, kind: BlockKind, place: ast.AST) -> DraftBlock:
        block = DraftBlock(kind, place, self.activation)
        self.number(block)
        return block

    def number(self, block: DraftBlock) -> None:
        block.index = len(self.blocks)
        self.blocks.append(block)

    def emit(self, nodes: list[Node], after: After) -> tuple[list[ast.stmt], list[Place | Fork]]:
        """Return the last statements of the current block, and the structure that follows."""
        first: list[ast.stmt] = []
        structure: list[Place | Fork] = []
        tail, arm, last = first, structure, nodes[-1:]
        pending = deque(nodes)
        while pending:
            node = pending.popleft()
            last = [node]
            match node:
                case Code(stmt):
                    tail.append(self._with_jumps(stmt))
                    if isinstance(stmt, ast.Raise):
                        return first, structure
                case Exit(label, stmt):
                    tail += self.leaving[label](stmt)
                    return first, structure
                case Return(stmt):
                    tail.append(self.leave(stmt, stmt.value))
                    return first, structure
                case Durable() | Region():
                    block = self._durable(node)
                    tail.append(jump(block, block.place))
                    arm.append(Place(block))
                    tail = block.body
                    if _ends(tail[-1]):
                        return first, structure
                case Fan():
                    fan, joined = self._fan(node, pending)
                    tail.append(jump(fan, fan.place))
                    arm += [Place(fan), Place(joined)]
                    tail = joined.body
                case Scope():
                    join = self._scope(node, pending, tail, arm, after)
                    if join is None:
                        return first, structure
                    tail = join.body
                case If(body=body) if pending and _surely_leaves(body):
                    # Later code is placed next to the branch, not in its other arm: a hundred early
                    # returns must not nest a hundred levels deep.
                    pending.extendleft(reversed(node.orelse))
                    arm = self._early_end(node, list(pending)[-1:], tail, arm, after)
                    continue
                case If():
                    join = self._branch(node, pending, tail, arm, after)
                    if join is None:
                        return first, structure
                    tail = join.body
                case Inline():
                    back = self._inline(node, tail, arm)
                    if back is None:
                        return first, structure
                    tail = back.body
            if pending and self._may_leave(node):
                arm = self._only_sometimes(node, arm)
        tail += after(_source(last[0]) if last else ast.Pass())
        return first, structure

    def _ends(self, nodes: list[Node]) -> bool:
        """Return whether the flow ends within `nodes` on every path."""
        return _surely_leaves(nodes) and not any(map(self._may_leave, nodes))

    def _durable(self, node: Durable | Region) -> DraftBlock:
        if isinstance(node, Durable):
            block = self.new(_kind(node.call), node.stmt)
            block.calls = [node.call]
            block.body = [self._with_jumps(node.stmt)]
            return block
        block = self.new("region", node.stmts[0])
        block.calls, block.region = node.calls, node
        block.body = [*node.definitions, *(self._with_jumps(stmt) for stmt in node.stmts)]
        return block

    def _fan(self, node: Fan, pending: deque[Node]) -> tuple[DraftBlock, DraftBlock]:
        """Add the block that submits, and the next block, in which results may be read."""
        fan = self.new("fan", node.stmts[0])
        fan.calls = node.calls
        place = _source(pending[0]) if pending else node.stmts[-1]
        joined = self.new("gather", place)
        joined.fan = fan
        fan.body = [*node.stmts, jump(joined, place)]
        return fan, joined

    def _inline(
        self, node: Inline, tail: list[ast.stmt], arm: list[Place | Fork]
    ) -> DraftBlock | None:
        """Add a helper's body; return the block where its caller continues, if there is one."""
        inner = node.activation
        back = DraftBlock("return", node.stmt, self.activation)
        builder = _Builder(self.blocks, inner, result_to(back, inner))
        enter = builder.new("call", inner.ir.definition)
        tail.append(call(enter, inner, node.arguments))
        stmts, structure = builder.emit(node.body, leaves(builder.leave))
        enter.body = [*node.defaults, *stmts]
        if inner.outer:
            _share(self.blocks, inner, inner.outer)
        arm += structure
        if not back.reached:
            return None
        self.number(back)
        if node.target:
            back.taken[node.target] = inner.result
        return back

    def _with_jumps(self, stmt: ast.stmt) -> ast.stmt:
        return with_jumps(stmt, self.leave, self.leaving)

    def _may_leave(self, node: Node) -> bool:
        """Return whether a node may leave a scope or a helper, so that later code may not run."""
        returns = self.activation.caller is not None and _returns(node)
        return returns or bool(self.leaving and escapes([node]))

    def _only_sometimes(self, node: Node, arm: list[Place | Fork]) -> list[Place | Fork]:
        """Add a branch with the code after a node that may leave its scope or helper."""
        rest: list[Place | Fork] = []
        arm.append(Fork(self._span(_source(node)), [[], rest], (False, False)))
        return rest

    def _span(self, place: ast.AST) -> Span:
        return self.activation.ir.source.span(place)

    def _fork(self, node: If, arms: list[list[Place | Fork]], ends: tuple[bool, bool]) -> Fork:
        written = self.activation.ir.source.written(node.test)
        return Fork(self._span(node.source), arms, ends, written)

    def _early_end(
        self,
        node: If,
        final: list[Node],
        tail: list[ast.stmt],
        arm: list[Place | Fork],
        after: After,
    ) -> list[Place | Fork]:
        """Add a branch whose body ends the function; return the structure of the code after it."""
        stmts, structure = self.emit(node.body, after)
        tail.append(at(node.source, ast.If(node.test, stmts, [])))
        rest: list[Place | Fork] = []
        ends = (self._ends(node.body), self._ends(final))
        arm.append(self._fork(node, [structure, rest], ends))
        return rest

    def _scope(
        self,
        node: Scope,
        pending: deque[Node],
        tail: list[ast.stmt],
        arm: list[Place | Fork],
        after: After,
    ) -> DraftBlock | None:
        """Add a scope; return the block where control continues after the scope, if it does."""
        join = self._join(pending)
        then = self.leaving[node.label] = goes_on_at(join) if join else after
        stmts, structure = self.emit(node.body, then)
        tail += stmts
        arm += structure
        if join is None or not join.reached:
            return None
        self.number(join)
        return join

    def _join(self, pending: deque[Node]) -> DraftBlock | None:
        if not pending:
            return None
        return DraftBlock("join", _source(pending[0]), self.activation)

    def _branch(
        self,
        node: If,
        pending: deque[Node],
        tail: list[ast.stmt],
        arm: list[Place | Fork],
        after: After,
    ) -> DraftBlock | None:
        """Add a branch; return the block where its arms join, if control can reach it."""
        body = node.body
        if pending and _surely_leaves(node.orelse):
            body = [*body, *pending]
            pending.clear()
        join = self._join(pending)
        then = goes_on_at(join) if join else after
        stmts, structure = self.emit(body, then)
        else_stmts, else_structure = self.emit(node.orelse, then)
        ends = (self._ends(body), self._ends(node.orelse))
        arm.append(self._fork(node, [structure, else_structure], ends))
        tail.append(at(node.source, ast.If(node.test, stmts, else_stmts)))
        if join is None or not join.reached:
            return None
        self.number(join)
        return join


def _share(blocks: list[DraftBlock], inner: Activation, outer: Activation) -> None:
    """Let the blocks of a local function read the variables of the function that defines it."""
    for block in blocks:
        if block.activation is inner:
            read = set[str]().union(*map(read_names, block.body)) & inner.ir.shared
            block.taken |= {name: outer.qualified(name) for name in sorted(read)}


def _kind(call: DurableCall) -> BlockKind:
    match call.kind:
        case "checkpoint" | "llm" | "wait" | "log" | "memory" | "inbox":
            return call.kind
        case "sleep" | "event":
            return "wait"
    return "region"


def _source(node: Node) -> ast.AST:
    match node:
        case If(source=source) | Scope(source=source):
            return source
        case Region(stmts) | Fan(stmts):
            return stmts[0]
        case Code(stmt) | Durable(stmt) | Return(stmt) | Exit(stmt=stmt) | Inline(stmt):
            return stmt


def _returns(node: Node) -> bool:
    """Return whether a node may return from its function; a helper called in it returns to it."""
    match node:
        case If(body=body, orelse=orelse):
            return any(map(_returns, [*body, *orelse]))
        case Scope(body=body):
            return any(map(_returns, body))
        case Region(stmts):
            return any(_holds_return(stmt) for stmt in stmts)
        case Code(stmt):
            return _holds_return(stmt)
    return isinstance(node, Return)


def _holds_return(stmt: ast.stmt) -> bool:
    return any(isinstance(inner, ast.Return) for inner in own_nodes(stmt))


def _ends(stmt: ast.stmt) -> bool:
    return isinstance(stmt, ast.Return | ast.Raise)


def _surely_leaves(nodes: list[Node]) -> bool:
    """Return whether control never reaches the code after `nodes`."""
    if not nodes:
        return False
    match nodes[-1]:
        case Return() | Exit():
            return True
        case Code(stmt) | Durable(stmt):
            return _ends(stmt)
        case If(body=body, orelse=orelse):
            return _surely_leaves(body) and _surely_leaves(orelse)
    return False
