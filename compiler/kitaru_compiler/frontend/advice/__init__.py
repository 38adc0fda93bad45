"""Decides what a flow is warned of although it compiles: values, names and futures that go wrong.

Each adviser is a function from one function's body to findings. All of them look at what is certain
in the source alone: a wrong finding costs more trust than a missed one.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator

from kitaru.wire.plan import Span
from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.frontend.advice.body import Body
from kitaru_compiler.frontend.advice.dead import futures, unreachable
from kitaru_compiler.frontend.advice.naming import call_names, checkpoint_name, duplicate_ids
from kitaru_compiler.frontend.advice.outside import outside_reads
from kitaru_compiler.frontend.advice.shared import changed_globals, mutable_defaults
from kitaru_compiler.frontend.advice.values import identity_of_literals, order_of_sets
from kitaru_compiler.frontend.flows import FlowDefinition
from kitaru_compiler.frontend.names import Names, Symbol

Adviser = Callable[[Body], Iterable[Diagnostic]]
FLOW: tuple[Adviser, ...] = (
    mutable_defaults,
    outside_reads,
    order_of_sets,
    identity_of_literals,
    unreachable,
    futures,
    duplicate_ids,
    call_names,
)
CHECKPOINT: tuple[Adviser, ...] = (checkpoint_name, mutable_defaults, changed_globals)


def advise(flow: FlowDefinition, names: Names) -> list[Diagnostic]:
    """Return what is doubtful in a flow and the checkpoints it mentions.

    The flow's durable calls must have been marked (see `frontend.calls`).
    """
    body = Body(flow.source, flow.definition, names)
    found = [diagnostic for adviser in FLOW for diagnostic in adviser(body)]
    for symbol in _checkpoints(body):
        assert symbol.source is not None
        assert isinstance(symbol.definition, ast.FunctionDef | ast.AsyncFunctionDef)
        inner = Body(symbol.source, symbol.definition, names, symbol.options)
        found += [diagnostic for adviser in CHECKPOINT for diagnostic in adviser(inner)]
    return found


def advised(flow: FlowDefinition, names: Names) -> Iterator[Span]:
    """Yield the parts of the source that `advise` looks at: the flow, and its checkpoints."""
    yield flow.source.span(flow.definition)
    for symbol in _checkpoints(Body(flow.source, flow.definition, names)):
        if symbol.source and symbol.definition:
            yield symbol.source.span(symbol.definition)


def _checkpoints(body: Body) -> Iterator[Symbol]:
    """Yield the checkpoints that the flow names, each once, in the order of the source."""
    seen: set[str] = set()
    for node in body.nodes:
        if isinstance(node, ast.Name | ast.Attribute):
            symbol = body.symbol(node)
            if symbol and symbol.kind == "checkpoint" and symbol.name not in seen:
                seen.add(symbol.name)
                yield symbol
