"""Decides what a flow is warned of although it compiles: values, names and futures that go wrong.

Each adviser is a function from one function's body to findings. All of them look at what is certain
in the source alone: a wrong finding costs more trust than a missed one.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator

from kitaru.wire.plan import Span
from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.frontend.advice.arguments import changed_arguments, returned_arguments
from kitaru_compiler.frontend.advice.body import Bodies, Body
from kitaru_compiler.frontend.advice.dead import futures, unreachable
from kitaru_compiler.frontend.advice.inputs import inputs_without_json
from kitaru_compiler.frontend.advice.misuse import awaited_checkpoints, durable_in_checkpoint
from kitaru_compiler.frontend.advice.models import model_calls
from kitaru_compiler.frontend.advice.naming import (
    call_names,
    checkpoint_name,
    duplicate_ids,
    flow_name,
)
from kitaru_compiler.frontend.advice.outside import outside_reads
from kitaru_compiler.frontend.advice.pickles import pickle_option
from kitaru_compiler.frontend.advice.shared import changed_globals, mutable_defaults
from kitaru_compiler.frontend.advice.values import identity_of_literals, order_of_sets
from kitaru_compiler.frontend.advice.waits import cleanup_around_waits
from kitaru_compiler.frontend.flows import FlowDefinition
from kitaru_compiler.frontend.names import Names

Adviser = Callable[[Body], Iterable[Diagnostic]]
FLOW: tuple[Adviser, ...] = (
    flow_name,
    inputs_without_json,
    mutable_defaults,
    outside_reads,
    order_of_sets,
    identity_of_literals,
    unreachable,
    futures,
    duplicate_ids,
    call_names,
    awaited_checkpoints,
    model_calls,
    cleanup_around_waits,
)
CHECKPOINT: tuple[Adviser, ...] = (
    durable_in_checkpoint,
    model_calls,
    checkpoint_name,
    pickle_option,
    mutable_defaults,
    changed_globals,
    changed_arguments,
    returned_arguments,
)


def advise(flow: FlowDefinition, names: Names) -> list[Diagnostic]:
    """Return what is doubtful in a flow and the checkpoints it mentions.

    The flow's durable calls must have been marked (see `frontend.calls`).
    """
    body = Bodies(names).of(flow.source, flow.definition, flow.options)
    found = [diagnostic for adviser in FLOW for diagnostic in adviser(body)]
    for inner in _checkpoints(body):
        found += [diagnostic for adviser in CHECKPOINT for diagnostic in adviser(inner)]
    return found


def advised(flow: FlowDefinition, names: Names) -> Iterator[Span]:
    """Yield the parts of the source that `advise` looks at: the flow, and its checkpoints."""
    body = Bodies(names).of(flow.source, flow.definition)
    yield from (one.source.span(one.definition) for one in (body, *_checkpoints(body)))


def _checkpoints(body: Body) -> Iterator[Body]:
    """Yield the checkpoints that the flow and its helpers name, each once."""
    seen: set[str] = set()
    for one, node in _with_helpers(body):
        symbol = one.symbol(node) if isinstance(node, ast.Name | ast.Attribute) else None
        if symbol and symbol.kind == "checkpoint" and symbol.name not in seen:
            seen.add(symbol.name)
            assert symbol.source is not None
            assert isinstance(symbol.definition, ast.FunctionDef | ast.AsyncFunctionDef)
            yield body.bodies.of(symbol.source, symbol.definition, symbol.options)


def _with_helpers(body: Body) -> Iterator[tuple[Body, ast.AST]]:
    """Yield the nodes of the flow, then those of what it calls, each function once."""
    pending, seen = [body], {body.definition}
    while pending:
        one = pending.pop(0)
        yield from ((one, node) for node in one.nodes)
        for _, helper in one.helpers:
            if helper.definition not in seen:
                seen.add(helper.definition)
                pending.append(helper)
