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
    """The end of a block: on to `target`, or the end of the flow with a value.

    `passed` are the names of another activation that it gives values to.
    """

    target: DraftBlock | None
    passed: tuple[str, ...] = ()


@dataclass(slots=True)
class DraftBlock:
    """A block being made: its statements, and where the source of its durable call lies.

    `items` names the step whose nodes make the calls that a fan submits; `fan` is the block whose
    calls a gather waits for. `taken` names the variables that it takes from the frame under another
    name.
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
        """The file that the block's code stands in."""
        return self.activation.ir.source

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

    span: Span
    arms: list[list[Place | Fork]]
    ends: tuple[bool, bool]

    @property
    def certain(self) -> bool:
        """Whether the non-empty arm is reached whenever the flow continues."""
        return any(ends and not arm for arm, ends in zip(self.arms, self.ends, strict=True))


def jumps(stmt: ast.stmt) -> list[Jump]:
    """Return the ends of the block inside a statement of its body."""
    found = [getattr(node, "jump", None) for node in own_statements(stmt)]
    return [jump for jump in found if jump is not None]
