"""Find effects of a function through the project's helpers, with the calls that reach them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from kitaru.wire.plan import Span
from kitaru_compiler.lint.body import Body

Fact = TypeVar("Fact", bound=Hashable)
# The facts about a function's own code, each with the node that shows it.
Look = Callable[[Body], Iterable[tuple[Fact, ast.AST]]]
Way = tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Reached(Generic[Fact]):
    """A fact about a helper that `call` calls by `name`; `way` is the path to it, ending there."""

    fact: Fact
    call: ast.Call
    name: str
    way: Way

    def related(self, label: str) -> tuple[tuple[Span, str], ...]:
        """Return the path as related spans of a finding; `label` is the text of the last span."""
        *calls, last = self.way
        return (*((span, "through this call") for span in calls), (last, label))


def reached(body: Body, look: Look[Fact]) -> Iterator[Reached[Fact]]:
    """Yield the facts about the helpers that `body` calls, transitively and once per call."""
    for call, helper in body.helpers:
        for fact, way in _done(helper, look).items():
            yield Reached(fact, call, helper.definition.name, way)


def _done(body: Body, look: Look[Fact]) -> Mapping[Fact, Way]:
    """Return the facts about a helper and its callees; recursion adds no new facts."""
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
