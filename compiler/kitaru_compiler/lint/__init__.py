"""Warnings about flows that compile: uncertain values, names and futures.

Each adviser is a function from one function's body to findings. Advisers report only what is
certain from the source alone: a wrong finding costs more trust than a missed one.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from kitaru.wire.plan import Span
from kitaru_compiler.diagnostics.faults import findings_of
from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.frontend.flows import FlowDefinition
from kitaru_compiler.frontend.names import Names
from kitaru_compiler.lint.agents import (
    agent_names,
    blocking_runs,
    durable_agent_in_checkpoint,
    tools_with_resources,
    toolsets,
    two_journals,
    undurable_runs,
)
from kitaru_compiler.lint.arguments import changed_arguments, returned_arguments
from kitaru_compiler.lint.body import Bodies, Body
from kitaru_compiler.lint.dead import futures, unreachable
from kitaru_compiler.lint.inputs import inputs_without_json
from kitaru_compiler.lint.kept_values import kept_state
from kitaru_compiler.lint.misuse import (
    awaited_checkpoints,
    blocking_in_async_flow,
    durable_in_checkpoint,
    model_calls,
    never_awaited,
    pickle_option,
)
from kitaru_compiler.lint.naming import (
    call_names,
    checkpoint_name,
    duplicate_ids,
    flow_name,
)
from kitaru_compiler.lint.nondeterminism import outside_reads
from kitaru_compiler.lint.process_state import process_changes
from kitaru_compiler.lint.shared import changed_globals, mutable_defaults
from kitaru_compiler.lint.values import identity_of_literals, order_of_sets
from kitaru_compiler.lint.waits import cleanup_around_waits, long_polling

Adviser = Callable[[Body], Iterable[Diagnostic]]
AGENTS: tuple[Adviser, ...] = (
    undurable_runs,
    agent_names,
    two_journals,
    tools_with_resources,
    toolsets,
)
FLOW: tuple[Adviser, ...] = (
    flow_name,
    inputs_without_json,
    mutable_defaults,
    outside_reads,
    process_changes,
    kept_state,
    order_of_sets,
    identity_of_literals,
    unreachable,
    futures,
    duplicate_ids,
    call_names,
    awaited_checkpoints,
    model_calls,
    cleanup_around_waits,
    long_polling,
    *AGENTS,
)
# A future of an async flow may be awaited by a task, so nothing is certain about it.
ASYNC_FLOW: tuple[Adviser, ...] = (
    *(adviser for adviser in FLOW if adviser is not futures),
    blocking_in_async_flow,
    blocking_runs,
    never_awaited,
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
    durable_agent_in_checkpoint,
)


def advise(flow: FlowDefinition, names: Names) -> list[Diagnostic]:
    """Return the warnings about a flow and the checkpoints that it mentions.

    The durable calls of the flow must have been marked (see `frontend.calls`).
    """
    body = Bodies(names).of(flow.source, flow.definition, flow.options)
    is_async = isinstance(flow.definition, ast.AsyncFunctionDef)
    found = _asked(ASYNC_FLOW if is_async else FLOW, body)
    for inner in _checkpoints(body):
        found += _asked(CHECKPOINT, inner)
    return found


def _asked(advisers: Iterable[Adviser], body: Body) -> list[Diagnostic]:
    place = body.source.span(body.definition)
    return [
        diagnostic
        for adviser in advisers
        for diagnostic in findings_of(adviser.__name__, place, partial(adviser, body))
    ]


def advised(flow: FlowDefinition, names: Names) -> Iterator[Span]:
    """Yield the parts of the source that `advise` inspects: the flow and its checkpoints."""
    body = Bodies(names).of(flow.source, flow.definition)
    yield from (one.source.span(one.definition) for one in (body, *_checkpoints(body)))


def _checkpoints(body: Body) -> Iterator[Body]:
    """Yield the checkpoints that the flow and its helpers name, without duplicates."""
    seen: set[str] = set()
    for one, node in _with_helpers(body):
        symbol = one.symbol(node) if isinstance(node, ast.Name | ast.Attribute) else None
        if symbol and symbol.kind == "checkpoint" and symbol.name not in seen:
            seen.add(symbol.name)
            assert symbol.source is not None
            assert isinstance(symbol.definition, ast.FunctionDef | ast.AsyncFunctionDef)
            yield body.bodies.of(symbol.source, symbol.definition, symbol.options)


def _with_helpers(body: Body) -> Iterator[tuple[Body, ast.AST]]:
    """Yield the nodes of the flow, then those of its callees, each function once."""
    pending, seen = [body], {body.definition}
    while pending:
        one = pending.pop(0)
        yield from ((one, node) for node in one.nodes)
        for _, helper in one.helpers:
            if helper.definition not in seen:
                seen.add(helper.definition)
                pending.append(helper)
