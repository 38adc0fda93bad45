"""Build the plan: blocks, steps and layout as plain data, with notes about them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kitaru.wire import plan as wire
from kitaru.wire.plan import (
    Block,
    Granularity,
    LayoutItem,
    PlannedAgent,
    Span,
    Step,
    StepItem,
)
from kitaru.wire.structs import replace
from kitaru_compiler.cut.basic_blocks import DraftBlock
from kitaru_compiler.cut.blocks import build_blocks
from kitaru_compiler.cut.codegen import Generated, generate
from kitaru_compiler.cut.layout import Cutter, Joined, rides_along
from kitaru_compiler.cut.liveness import bound_variables, live_variables
from kitaru_compiler.cut.profile import Profile
from kitaru_compiler.cut.resources import asked_by, may_pickle, most, pickles
from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.cutting import (
    GUARDS_DECIDE,
    INTERNAL_FAULT,
    TRY_STAYS_TOGETHER,
)
from kitaru_compiler.diagnostics.rules.names import TOO_MANY_STEPS
from kitaru_compiler.diagnostics.rules.values import LOCAL_FUNCTION_CROSSES
from kitaru_compiler.frontend.source import Source
from kitaru_compiler.ir.nodes import (
    Activation,
    Code,
    DurableCall,
    Fan,
    FlowIR,
    If,
    Node,
    Region,
    Scope,
    durable_calls,
)
from kitaru_compiler.ir.scope import Comprehension, Function, own_nodes
from kitaru_compiler.passes.uncuttable import too_large, unexpected


@dataclass(frozen=True)
class Cut:
    """A flow cut for one target: the parts of its plan, its generated code and its notes.

    `regions` has the region and the file of each uncut block. `joined` has the reason for each call
    that runs in the step before it.
    """

    blocks: tuple[Block, ...]
    steps: tuple[Step, ...]
    layout: tuple[LayoutItem, ...]
    activations: tuple[wire.Activation, ...]
    generated: Generated
    notes: tuple[Diagnostic, ...]
    regions: Mapping[str, tuple[Region, Source]]
    joined: Mapping[str, Joined] = field(default_factory=dict)
    pickles: bool = False
    agents: tuple[PlannedAgent, ...] = ()


def cut(ir: FlowIR, granularity: Granularity, profile: Profile) -> Cut:
    """Cut a flow in normal form."""
    if ir.whole:
        return _uncut(ir, ir.whole)
    try:
        return _cut(ir, granularity, profile)
    except (RecursionError, IndentationError):
        # Python itself allows no deeper nesting.
        return cut(too_large(ir), granularity, profile)
    except Exception as error:
        return cut(unexpected(ir, "cut", error), granularity, profile)


def _cut(ir: FlowIR, granularity: Granularity, profile: Profile) -> Cut:
    drafts, structure = build_blocks(ir)
    if profile.waits == "native":
        _keep_unasked(drafts)
    live = live_variables(drafts)
    activations = tuple(dict.fromkeys(draft.activation for draft in drafts))
    mention = _first_mention(activations)
    ordered = {i: tuple(sorted(names, key=mention)) for i, names in live.items()}
    cutter = Cutter(drafts, granularity, profile)
    steps, layout = cutter.cut(structure)
    generated = generate(ir, drafts, ordered, bound_variables(drafts))
    blocks = tuple(_block(draft, ordered[draft.index]) for draft in drafts)
    notes = (
        *_region_notes(drafts),
        *_guard_notes(cutter),
        *_limit_notes(cutter),
        *_local_definitions(activations, blocks, steps),
    )
    called = tuple(_activation(a, a.caller, a.call) for a in activations if a.caller and a.call)
    regions = {draft.name: (draft.region, draft.source) for draft in drafts if draft.region}
    joined = {drafts[index].name: why for index, why in cutter.joined.items()}
    parts = (blocks, steps, layout, called, generated, notes)
    agents = tuple(agent for draft in drafts for agent in _agents(draft.name, draft.calls))
    return Cut(*parts, regions, joined, pickles(drafts), agents)


def _keep_unasked(drafts: list[DraftBlock]) -> None:
    """Let sleeps and waits for events run at the end of the step before them.

    The native node of a wait asks a person. A step that sleeps is started again when its time has
    come, by the orchestrator or a dispatcher, and one that waits for an event by a dispatcher.
    """
    for draft in drafts:
        unasked = all(call.kind in ("sleep", "event") for call in draft.calls)
        if draft.kind == "wait" and unasked:
            draft.kind = "memory"


def _agents(block: str, calls: Iterable[DurableCall]) -> Iterator[PlannedAgent]:
    yield from (replace(call.agent, block=block) for call in calls if call.agent)


def _activation(made: Activation, caller: Activation, call: ast.Call) -> wire.Activation:
    ir = made.ir
    assert call.end_lineno is not None and call.end_col_offset is not None
    return wire.Activation(
        name=made.name,
        function=ir.function,
        module=ir.source.module,
        file=ir.source.file,
        line=ir.definition.lineno,
        caller=caller.name,
        call=(call.lineno, call.col_offset, call.end_lineno, call.end_col_offset),
        futures=ir.source.futures,
    )


def _uncut(ir: FlowIR, region: Region) -> Cut:
    """Keep the flow's own function as its only block."""
    source = ir.source
    span = source.span(ir.definition)
    calls = tuple(name for call in region.calls for name in call.records)
    # After a fault of the compiler, the calls of the flow may be unknown.
    waits = region.rule is INTERNAL_FAULT or any(call.may_wait for call in region.calls)
    name = ir.name.lower() if ir.name.lower().isidentifier() and ir.name.isascii() else "flow"
    told = (region.rule.code, region.reason, region.help)
    block = Block(0, name, "flow", (None,), ir.parameters, span, calls, waits, *told)
    options = [*asked_by(region.calls), *region.needs]
    step = Step(name, name, (name,), (None,), span, waits, resources=most(options))
    text = f'"""Flow `{ir.name}` is not cut: its own function runs as it is."""\n'
    reason = f"{region.reason}: the whole flow stays in one step"
    note = Diagnostic(region.rule, source.span(region.at), reason, "", region.help)
    generated = Generated(text, ())
    layout = (StepItem(name),)
    regions = {name: (region, source)}
    return Cut(
        (block,), (step,), layout, (), generated, (note,), regions, pickles=may_pickle(options),
        agents=tuple(_agents(name, region.calls)),
    )  # fmt: skip


def _first_mention(activations: Iterable[Activation]) -> Any:
    """Return a sort key for variables: source order, the flow's own variables first."""
    order: dict[str, int] = {}
    for activation in activations:
        for name in _mentions(activation.ir):
            order.setdefault(activation.qualified(name), len(order))
        # Temporaries of the passes, and results.
        order.setdefault(activation.name, len(order))
    return lambda name: (order.get(name, order[name.rpartition(".")[0]]), name)


def _mentions(ir: FlowIR) -> Iterator[str]:
    yield from ir.parameters
    for stmt in ir.definition.body:
        for node in ast.walk(stmt):
            if isinstance(node, ast.Name):
                yield node.id


def _block(draft: DraftBlock, live: tuple[str, ...]) -> Block:
    return Block(
        index=draft.index,
        name=draft.name,
        kind=draft.kind,
        next=tuple(None if target is None else target.name for target in draft.next),
        live=live,
        span=_span(draft),
        calls=tuple(name for call in draft.calls for name in call.records),
        may_wait=draft.may_wait,
        reason=draft.region.rule.code if draft.region else "",
        why=draft.region.reason if draft.region else "",
        fix=draft.region.help if draft.region else "",
        activation=draft.activation.name,
    )


def _span(draft: DraftBlock) -> Span:
    place = draft.place
    if draft.kind == "call":
        line = draft.activation.ir.definition.lineno
        return Span(draft.source.file, line, 1, line, 1)
    if draft.region and len(draft.region.stmts) > 1:
        last = draft.region.stmts[-1]
        place = ast.copy_location(ast.Pass(), place)
        place.end_lineno, place.end_col_offset = last.end_lineno, last.end_col_offset
    return draft.source.span(place)


def _region_notes(drafts: list[DraftBlock]) -> list[Diagnostic]:
    notes = []
    for draft in drafts:
        region = draft.region
        if region is None or rides_along(draft) or _makes_one_call(region):
            continue
        span = _span(draft)
        lines = f"line {span.line} stays"
        if span.end_line > span.line:
            lines = f"lines {span.line}–{span.end_line} stay"
        message = f"{region.reason}: {lines} in one step ({_counted(draft)})"
        notes.append(
            Diagnostic(region.rule, draft.source.span(region.at), message, "", region.help)
        )
    return notes


def _makes_one_call(region: Region) -> bool:
    """Return whether a `try` makes exactly one call, so that its own step changes nothing.

    try:
        found = search(query)
    except TimeoutError:
        found = []
    """
    if region.rule is not TRY_STAYS_TOGETHER or len(region.calls) != 1:
        return False
    (call,) = region.calls
    repeats = (ast.For, ast.AsyncFor, ast.While, *Comprehension.__args__, *Function.__args__)
    nodes = [node for stmt in region.stmts for node in ast.walk(stmt)]
    repeated = any(isinstance(n, repeats) and durable_calls(n) for n in nodes)
    return call.kind in ("checkpoint", "llm") and not repeated


def _counted(draft: DraftBlock) -> str:
    names = {name for call in draft.calls for name in call.records}
    if len(names) == 1:
        return f"`{names.pop()}`, each call recorded on its own"
    return f"{len(names)} checkpoints, durable one by one"


def _guard_notes(cutter: Cutter) -> list[Diagnostic]:
    notes = []
    for span, too_deep in cutter.undecided_branches.items():
        message = "several steps reach this test: in each arm the first step starts"
        fix = "call a checkpoint that always runs between the join and this test"
        if too_deep:
            most = cutter.profile.max_depth
            message = f"the target nests {most} conditions at most: each step here starts"
            fix = "return early, or move the inner branches into a checkpoint"
        notes.append(Diagnostic(GUARDS_DECIDE, span, f"{message} and asks its guard", "", fix))
    return notes


def _limit_notes(cutter: Cutter) -> list[Diagnostic]:
    if cutter.first_over_limit is None:
        return []
    message = (
        f"{cutter.profile.name} takes {cutter.profile.max_steps} steps: from here on, each call is "
        "recorded on its own in the last of them"
    )
    fix = "call the rest from a flow of its own, or compile with --granularity fused"
    return [
        Diagnostic(
            TOO_MANY_STEPS,
            cutter.first_over_limit.source.span(cutter.first_over_limit.place),
            message,
            "",
            fix,
        )
    ]


def _local_definitions(
    activations: Iterable[Activation], blocks: tuple[Block, ...], steps: tuple[Step, ...]
) -> list[Diagnostic]:
    """Warn about functions and classes defined in the body that are still needed after a cut."""
    entries = {step.entry for step in steps[1:]}
    crossing = {name for block in blocks if block.name in entries for name in block.live}
    notes = []
    for activation in activations:
        for node in (n for stmt in _statements(activation.ir.body) for n in own_nodes(stmt)):
            name = _defined_name(node)
            if activation.qualified(name) in crossing:
                message = (
                    f"`{name}` is defined in the flow and needed after a cut: that cut is left out"
                )
                fix = f"define `{name}` at module level"
                span = activation.ir.source.span(node)
                notes.append(Diagnostic(LOCAL_FUNCTION_CROSSES, span, message, "", fix))
                crossing.discard(activation.qualified(name))
    return notes


def _defined_name(node: ast.AST) -> str:
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return name
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Lambda()):
            return name
    return ""


def _statements(nodes: list[Node]) -> list[ast.stmt]:
    found: list[ast.stmt] = []
    for node in nodes:
        match node:
            case Code(stmt):
                found.append(stmt)
            case Region(stmts) | Fan(stmts):
                found += stmts
            case If(body=body, orelse=orelse):
                found += [*_statements(body), *_statements(orelse)]
            case Scope(body=body):
                found += _statements(body)
    return found
