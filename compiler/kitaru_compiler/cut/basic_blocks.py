"""Draft blocks, and the structure that contains them during a compilation."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from kitaru.wire.plan import BlockKind, Span
from kitaru_compiler.frontend.source import Source
from kitaru_compiler.ir.nodes import Activation, DurableCall, Region
from kitaru_compiler.ir.scope import own_statements


@dataclass(slots=True)
class Jump:
    """The end of a block: control continues at `target`, or the flow ends with a value.

    `passed` are the variables of another activation that receive values.
    """

    target: DraftBlock | None
    passed: tuple[str, ...] = ()


@dataclass(slots=True)
class DraftBlock:
    """A block under construction: its statements, and the source position of its durable call.

    `items` names the step whose nodes run the calls that a fan submits. `fan` is the block whose
    calls a gather waits for. `taken` names the variables that the block reads from the frame under
    another name.
    """

    kind: BlockKind
    place: ast.AST
    activation: Activation
    calls: list[DurableCall] = field(default_factory=list)
    region: Region | None = None
    name: str = ""
    index: int = -1
    items: str = ""
    fan: DraftBlock | None = None
    reached: bool = False
    body: list[ast.stmt] = field(default_factory=list)
    taken: dict[str, str] = field(default_factory=dict)

    @property
    def source(self) -> Source:
        """The file that contains the block's code."""
        return self.activation.ir.source

    @property
    def may_wait(self) -> bool:
        return any(call.may_wait for call in self.calls)

    @property
    def next(self) -> list[DraftBlock | None]:
        """Every possible successor, in program order; None for the end of the flow."""
        found = {id(jump.target): jump.target for stmt in self.body for jump in jumps(stmt)}
        targets = [target for target in found.values() if target is not None]
        ordered: list[DraftBlock | None] = [*sorted(targets, key=lambda block: block.index)]
        return [*ordered, None] if len(targets) < len(found) else ordered


@dataclass(slots=True)
class Place:
    """The place of a block in the flow's structure, from which the layout of steps is built."""

    block: DraftBlock


@dataclass(slots=True)
class Fork:
    """A branch of the flow's structure, with its arms in source order.

    `ends` contains for each arm whether the flow surely ends in it. `test` is the condition as
    written, empty if the source contains none here.
    """

    span: Span
    arms: list[list[Place | Fork]]
    ends: tuple[bool, bool]
    test: str = ""

    @property
    def certain(self) -> bool:
        """Whether the flow runs the non-empty arm whenever it continues after the branch."""
        return any(ends and not arm for arm, ends in zip(self.arms, self.ends, strict=True))


def jumps(stmt: ast.stmt) -> list[Jump]:
    """Return the block ends nested inside a statement of the block's body."""
    found = [getattr(node, "jump", None) for node in own_statements(stmt)]
    return [jump for jump in found if jump is not None]
