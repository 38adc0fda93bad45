"""Liveness: the variables that are read after each boundary, and those surely bound.

Variables have their names in the flow's frame. Variables of an inlined helper have the names of its
activation.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

from kitaru.wire.structs import Struct
from kitaru_compiler.cut.basic_blocks import DraftBlock, Jump, jumps
from kitaru_compiler.ir.nodes import Activation
from kitaru_compiler.ir.scope import (
    bound_names,
    certainly_bound,
    deleted_names,
    read_names,
    target_names,
)

Names = frozenset[str]
NONE: Names = frozenset()


def live_variables(blocks: list[DraftBlock]) -> dict[int, Names]:
    """Return, by block index, the variables that may be read before they are bound again.

    A variable that cannot be bound yet counts only in blocks that mention it. Those blocks must
    treat it as a variable of the function, so that reading it raises an error and never finds a
    global of the same name.
    """
    live: dict[int, Names] = {}
    owners = _owners(blocks)
    for block in reversed(blocks):
        own = owners[block.activation]
        before = _Before(own, live).stmts(block.body, NONE)
        taken = own.names(block.taken)
        live[block.index] = (before - taken).union(block.taken.values())
    bindable = _bindable(blocks, owners)
    return {
        b.index: live[b.index] & (bindable[b.index] | _only_read(b, owners[b.activation]))
        for b in blocks
    }


class Own(Struct):
    """The variables of one activation, by their names in the frame."""

    activation: Activation
    variables: Names

    def names(self, mentioned: Iterable[str]) -> Names:
        """Return the variables that correspond to `names` used in the activation's code."""
        return frozenset(
            self.activation.qualified(name) for name in mentioned if name in self.variables
        )


def _owners(blocks: list[DraftBlock]) -> dict[Activation, Own]:
    activations = {block.activation for block in blocks}
    return {a: Own(a, a.ir.locals.union(a.ir.temporaries)) for a in activations}


def _only_read(block: DraftBlock, own: Own) -> Names:
    read = set[str]().union(*map(read_names, block.body))
    return own.names(read.difference(*map(bound_names, block.body)))


def _bindable(blocks: list[DraftBlock], owners: dict[Activation, Own]) -> dict[int, Names]:
    """Return, by block index, the names that may have a value on entry."""
    found = {block.index: frozenset(blocks[0].activation.ir.parameters) for block in blocks}
    for block in blocks:
        own = owners[block.activation]
        bound = own.names(set(block.taken).union(*map(bound_names, block.body)))
        for jump in (jump for stmt in block.body for jump in jumps(stmt)):
            if jump.target is not None:
                found[jump.target.index] |= found[block.index].union(bound, jump.passed)
    return found


class _Before(Struct):
    """Follows one activation's statements backwards; `live` are the live names of later blocks."""

    own: Own
    live: dict[int, Names]

    def stmts(self, stmts: list[ast.stmt], after: Names) -> Names:
        """Return the names live before the statements if `after` is live after them."""
        for stmt in reversed(stmts):
            after = self._stmt(stmt, after)
        return after

    def _stmt(self, stmt: ast.stmt, after: Names) -> Names:
        jump: Jump | None = getattr(stmt, "jump", None)
        match stmt:
            case ast.Return(value=ast.Tuple(elts=[_, value])) if jump:
                return self._at(jump) | self._read(value)
            case ast.If(test=test, body=body, orelse=orelse):
                arms = self.stmts(body, after) | self.stmts(orelse, after)
                # A walrus in the test may or may not bind its name, so it ends no liveness.
                return arms | self._read(test)
        inside = map(self._at, jumps(stmt))
        return (after - self.own.names(_killed(stmt))).union(self._exposed(stmt), *inside)

    def _at(self, jump: Jump) -> Names:
        """Return the names that are live at a block's end and not passed by it."""
        return self.live[jump.target.index].difference(jump.passed) if jump.target else NONE

    def _read(self, *nodes: ast.AST) -> Names:
        return self.own.names(set[str]().union(*map(read_names, nodes)))

    def _part(self, stmts: list[ast.stmt], bound: Iterable[str] = ()) -> Names:
        return self.stmts(stmts, NONE) - self.own.names(bound)

    def _exposed(self, stmt: ast.stmt) -> Names:
        """Return the names that a statement may read before it binds them, part by part."""
        match stmt:
            case ast.While(test=test, body=body, orelse=orelse):
                return self._part(body) | self._part(orelse) | self._read(test)
            case ast.For(target=target, iter=iterable, body=body, orelse=orelse):
                # Reads in the target, as in `for xs[i] in …`, do not bind a name.
                inside = self._part(body, target_names(target)) | self._part(orelse)
                return inside | self._read(target, iterable)
            case ast.With(items=items, body=body):
                targets = [item.optional_vars for item in items if item.optional_vars]
                bound = set[str]().union(*map(target_names, targets))
                return self._part(body, bound) | self._read(*items)
            case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=final):
                # An exception may occur anywhere in the body, so no binding in the body hides a
                # later read.
                inside = self._part(body) | self._part(orelse) | self._part(final)
                for handler in handlers:
                    inside |= self._part(handler.body, [handler.name] if handler.name else ())
                    inside |= self._read(handler.type) if handler.type else NONE
                return inside
        return self._read(stmt)


def _killed(stmt: ast.stmt) -> set[str]:
    """Return the names whose old value is certainly gone after a simple statement."""
    return deleted_names(stmt) if isinstance(stmt, ast.Delete) else certainly_bound(stmt)


def bound_variables(blocks: list[DraftBlock]) -> dict[int, Names]:
    """Return, by block index, the variables that certainly have a value on entry."""
    bound: dict[int, Names] = {0: frozenset(blocks[0].activation.ir.parameters)}
    owners = _owners(blocks)
    for block in blocks:
        own = owners[block.activation]
        now = bound.get(block.index, NONE) | own.names(block.taken)
        _after(block.body, now, bound, own)
    return bound


def _after(stmts: list[ast.stmt], now: Names, bound: dict[int, Names], own: Own) -> Names:
    for stmt in stmts:
        jump: Jump | None = getattr(stmt, "jump", None)
        if jump and jump.target:
            _join(bound, jump.target.index, now.union(jump.passed))
        elif isinstance(stmt, ast.If):
            body = _after(stmt.body, now, bound, own)
            orelse = _after(stmt.orelse, now, bound, own)
            ends = [_leaves(stmt.body), _leaves(stmt.orelse)]
            now = (body & orelse) if not any(ends) else orelse if ends[0] else body
        else:
            gone = own.names(deleted_names(stmt))
            # A jump inside a statement can rely only on the names bound before the statement.
            for inner in jumps(stmt):
                if inner.target:
                    _join(bound, inner.target.index, (now - gone).union(inner.passed))
            now = now.union(own.names(certainly_bound(stmt))) - gone
    return now


def _join(bound: dict[int, frozenset[str]], index: int, now: frozenset[str]) -> None:
    bound[index] = bound.get(index, now) & now


def _leaves(stmts: list[ast.stmt]) -> bool:
    return bool(stmts) and isinstance(stmts[-1], ast.Return | ast.Raise)
