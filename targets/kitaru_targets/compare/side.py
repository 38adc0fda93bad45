"""One side of a comparison: facts about the flow, its steps and its waits, by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kitaru.errors import StateError
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import Store
from kitaru.wire import keys
from kitaru.wire.canonical import sha256
from kitaru.wire.plan import Block, Parameter, Plan, Resources, Step
from kitaru_targets import bundle, delivery, plans
from kitaru_targets.build import Build
from kitaru_targets.compare.code import Code, Codes, said
from kitaru_targets.graph import Edge, Graph, Node, decoded, graph_of

# Facts that only a build has: an execution does not record how its code was delivered.
_LOCKED = ("delivery", "image", "base_image", "store")


@dataclass(frozen=True, slots=True)
class Unit:
    """One compared unit: the flow, a step or a wait.

    `facts` are values by name. A mapping is compared entry by entry.
    """

    kind: str
    name: str
    place: str
    facts: Mapping[str, Any]
    code: Code


@dataclass(frozen=True, slots=True)
class Side:
    """One of two sides; `units` are in program order, the flow first."""

    flow: str
    target: str
    units: tuple[Unit, ...]


# The number of paths through conditions multiplies. Further paths are counted but not listed.
MOST = 16
_PASSED = ("join", "log", "memory", "inbox", "test")
_GLUE = ("entry", "join", "call", "return")


def of_build(build: Build) -> Side:
    """Return the compared facts of a written build."""
    locked = {name: getattr(build.lock, name) for name in _LOCKED}
    inside = bundle.contents(build.read("bundle.zip"))
    return _side(build.plan, inside, build.target.name, locked)


def of_execution(store: Store, exec_id: str) -> tuple[Plan, Side]:
    """Return the plan that an execution ran, and its compared facts, from the bundle.

    Raises:
        NotFound: the execution does not exist.
        StateError: the execution was not compiled, or its bundle is not in the store.
    """
    execution = Journal.open(store, exec_id).execution
    if not execution.plan_digest:
        raise StateError(
            f"Execution {exec_id} ran here without being compiled.",
            help="compare with a build instead: kitaru diff build/<flow>/<target> FLOW",
        )
    data = store.get(keys.bundle(execution.bundle_digest)) if execution.bundle_digest else None
    if data is None or sha256(data) != execution.bundle_digest:
        raise StateError(
            f"What execution {exec_id} ran is not in the store: its code came another way.",
            help="compare with its build instead: kitaru diff build/<flow>/<target> FLOW",
        )
    inside = bundle.contents(data)
    plan = plans.read_plan(bundle.written(inside, "plan.json"), f"The code of {exec_id}")
    return plan, _side(plan, inside, execution.target, {})


def _side(plan: Plan, inside: Mapping[str, bytes], target: str, locked: Mapping[str, Any]) -> Side:
    steps = bundle.steps(inside)
    files = bundle.project(inside)
    sources = {name: decoded(text) for name, text in files.items() if name.endswith(".py")}
    codes = Codes(plan, steps, sources)
    ways = arrivals(graph_of(plan, steps, sources))
    rows = [(plan.block(step.entry).index, _step(plan, step, codes, ways)) for step in plan.steps]
    rows += [(b.index, _wait(b, codes, ways)) for b in plan.blocks if b.kind == "wait"]
    ordered = [unit for _, unit in sorted(rows, key=lambda row: row[0])]
    return Side(
        plan.flow, target, (_flow(plan, {"target": target, **locked}, sources, files), *ordered)
    )


def _flow(
    plan: Plan, locked: Mapping[str, Any], sources: Mapping[str, str], files: Mapping[str, bytes]
) -> Unit:
    code = {name: sha256(said(text).encode()) for name, text in sources.items()}
    facts = {
        "flow": plan.flow,
        "granularity": plan.granularity,
        "kitaru": plan.kitaru,
        **locked,
        "input": {p.name: _parameter(p) for p in plan.parameters},
        "calls at a time": plan.max_parallel,
        "requirement": dict(pin.partition("==")[::2] for pin in delivery.requirements(plan)),
        "model": dict(plan.models),
        "variable": dict(plan.environment),
        "secret": dict(plan.secrets),
        "file": code | {name: sha256(data) for name, data in files.items() if name not in code},
    }
    return Unit("flow", plan.flow, f"{plan.file}:{plan.line}", facts, Code((), {}))


def _step(plan: Plan, step: Step, codes: Codes, ways: Mapping[str, tuple[str, ...]]) -> Unit:
    kinds = {block.name: block.kind for block in plan.blocks}
    own = [name for name in step.blocks if kinds[name] != "wait"]
    facts = {
        "inputs": plan.block(step.entry).live,
        "resources": _resources(step.resources),
        "retries": step.retries,
        "retry delay": _pause(step),
        "isolated": step.isolated,
        "runs": [n for n in step.blocks if kinds[n] not in _GLUE and n != step.name],
        "comes after": ways.get(step.name, ()),
    }
    return Unit("step", step.name, _place(step), facts, codes.of(own))


def _wait(block: Block, codes: Codes, ways: Mapping[str, tuple[str, ...]]) -> Unit:
    facts = {"inputs": block.live, "comes after": ways.get(block.name, ())}
    return Unit("wait", block.name, _place(block), facts, codes.of([block.name]))


def _place(unit: Block | Step) -> str:
    return f"{unit.span.file}:{unit.span.line}"


def _parameter(parameter: Parameter) -> str:
    default = "required" if parameter.required else "default of its own"
    if parameter.has_literal_default:
        default = f"default {json.dumps(parameter.default)}"
    return f"{parameter.annotation or parameter.type}, {default}"


def _pause(step: Step) -> str:
    return f"{step.retry_delay} s × {step.backoff}" if step.retry_delay else ""


def _resources(asked: Resources) -> str:
    named = {"cpu": asked.cpu, "memory": asked.memory, "gpu": asked.gpu}
    return ", ".join(f"{name} {value}" for name, value in named.items() if value)


def arrivals(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Return for each node the paths that reach it, as `research → if short: false`.

    Joins, logs and memory are skipped: the nodes before them count.
    """
    nodes = {node.id: node for node in graph.nodes}
    coming: dict[str, list[Edge]] = {node: [] for node in nodes}
    for edge in graph.edges:
        coming[edge.target].append(edge)
    found: dict[str, tuple[str, ...]] = {}

    def ways(node: str) -> tuple[str, ...]:
        if node not in found:
            ways = {way for edge in coming[node] for way in _through(nodes[edge.source], edge)}
            found[node] = _bounded(ways)
        return found[node]

    def _through(source: Node, edge: Edge) -> list[str]:
        if source.kind not in _PASSED:
            return [source.title if source.kind == "wait" else source.id]
        asked = f" → {source.title}: {edge.label}" if source.kind == "test" else ""
        return [f"{way}{asked}" for way in ways(source.id)]

    for node in nodes:
        ways(node)
    return found


def _bounded(ways: set[str]) -> tuple[str, ...]:
    if len(ways) <= MOST:
        return tuple(sorted(ways))
    digest = sha256("\n".join(sorted(ways)).encode()).removeprefix("sha256:")
    return (f"{len(ways)} ways ({digest[:12]})",)
