"""Effects of a function through the project's helpers, and the calls that reach them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from kitaru.wire.plan import Span
from kitaru_compiler.lint.body import Body

Fact = TypeVar("Fact", bound=Hashable)
# What a function does itself: each fact with the node that shows it.
Look = Callable[[Body], Iterable[tuple[Fact, ast.AST]]]
Way = tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Reached(Generic[Fact]):
    """A fact about a helper that `call` calls by `name`; `way` leads to it, its own place last."""

    fact: Fact
    call: ast.Call
    name: str
    way: Way

    def related(self, label: str) -> tuple[tuple[Span, str], ...]:
        """Return the way as the further spans of a finding; `label` is for the last of them."""
        *calls, last = self.way
        return (*((span, "through this call") for span in calls), (last, label))


def reached(body: Body, look: Look[Fact]) -> Iterator[Reached[Fact]]:
    """Yield what the helpers that `body` calls do, from helper to helper, each once for a call."""
    for call, helper in body.helpers:
        for fact, way in _done(helper, look).items():
            yield Reached(fact, call, helper.definition.name, way)


def _done(body: Body, look: Look[Fact]) -> Mapping[Fact, Way]:
    """Return what a helper does, itself or by another; recursion adds nothing new."""
    known: dict[ast.AST, dict[Fact, Way]] = body.bodies.known.setdefault(look, {})
    if body.definition not in known:
        found: dict[Fact, Way] = {}
        known[body.definition] = found
        for fact, node in look(body):
            found.setdefault(fact, (body.source.span(node),))
        for call, helper in body.helpers:
            for fact, way in _done(helper, look).items():
                found.setdefault(fact, (body.source.span(call), *way))
    return known[body.definition]
