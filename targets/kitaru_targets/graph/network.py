"""The checkpoint graph of a flow as a networkx `DiGraph`, with control and data edges.

`kitaru graph` writes it as GraphML or JSON, for tools that read graphs. Importing networkx takes
longer than a compilation, so this module is imported only if a graph is requested.

Nodes are those of `kitaru_targets.graph.model`, by their ids. Attributes of a node:

| attribute | meaning |
|---|---|
| `kind`, `title` | as in the drawing: step, region, wait, inbox, log, memory, test, … |
| `file`, `line`, `end_line` | the lines of the source, from 1 |
| `step` | the step of the pipeline that starts here; empty if none does |
| `containers` | how many containers start to reach it from the node before: 1 for a step, else 0 |
| `retries`, `retry_delay` | attempts after the first, and seconds before the second |
| `cpu`, `memory`, `gpu`, `isolated` | what the step asks of its machine |
| `calls` | the checkpoints, model calls and waits in it, separated by commas |
| `reason` | the code of the rule by which a region was not cut; else empty |
| `cost` | what a region costs in starts of containers; else empty |
| `seconds` | how long its calls took in the execution whose durations the drawing has; else 0 |
| `critical` | whether the critical path leads through it: of durations, else of container starts |

Attributes of an edge: `control` (control may continue there), `cut` (in a new container), `label`
(of a test), and `data`: the variables, separated by commas, that the source sets and the target
reads. An edge with only data skips the nodes between.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import networkx as nx

from kitaru.runtime.steps.blocks import Function
from kitaru.wire.plan import Block, Plan, Step
from kitaru_targets.graph.model import Graph, Node

_DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def network_of(graph: Graph, plan: Plan, steps: str) -> nx.DiGraph[str]:
    """Return the checkpoint graph of a compiled flow.

    Args:
        graph: the drawing of the same plan, from `graph_of`.
        steps: the text of `steps.py`.

    Example:
        network = network_of(graph_of(plan, steps, sources), plan, steps)
        nx.descendants(network, "research")
    """
    network: nx.DiGraph[str] = nx.DiGraph(flow=graph.flow, granularity=plan.granularity)
    started = {step.name: step for step in plan.steps}
    calls = {block.name: ", ".join(block.calls) for block in plan.blocks}
    for node in graph.nodes:
        network.add_node(
            node.id, **_attributes(node, started.get(node.step)), calls=calls.get(node.id, "")
        )
    for edge in graph.edges:
        # Both arms of a test may lead to the same node.
        known = network.get_edge_data(edge.source, edge.target, {}).get("label", "")
        label = " or ".join(dict.fromkeys(filter(None, [known, edge.label])))
        network.add_edge(edge.source, edge.target, control=True, cut=edge.cut, label=label, data="")
    marked = {node.id for node in graph.nodes if node.critical}
    path = marked or set(critical_path(network))
    for name, attributes in network.nodes(data=True):
        attributes["critical"] = name in path
    for (source, target), variables in _data_edges(plan, steps).items():
        if source in network and target in network:
            if not network.has_edge(source, target):
                network.add_edge(source, target, control=False, cut=False, label="")
            network.edges[source, target]["data"] = ", ".join(sorted(variables))
    return network


def critical_path(network: nx.DiGraph[str], by: str = "containers") -> list[str]:
    """Return the nodes of the path with the largest sum of an attribute of its nodes.

    The attribute is `containers` by default: the path with the most sequential container starts.
    """
    control: nx.DiGraph[str] = nx.DiGraph()
    control.add_nodes_from(network)
    for source, target, attributes in network.edges(data=True):
        if attributes["control"]:
            control.add_edge(source, target, weight=network.nodes[target][by])
    return list(nx.dag_longest_path(control, default_weight=0))


@dataclass(frozen=True, slots=True)
class TimedCall:
    """A recorded call: where it is in the source, its function, and when it ran, in seconds."""

    file: str
    line: int
    name: str
    start: float
    end: float


def timed(graph: Graph, network: nx.DiGraph[str], calls: Iterable[TimedCall]) -> Graph:
    """Return the drawing with the duration of each node, and the critical path marked.

    A node takes the time in which at least one of its calls ran. Several nodes may share a line,
    such as those of a helper that is called twice; then they have no duration, unless there was one
    call for each.
    """
    spans: dict[str, list[tuple[float, float]]] = {}
    groups: dict[tuple[str, ...], list[TimedCall]] = {}
    for call in calls:
        groups.setdefault(_places(graph, network, call), []).append(call)
    for nodes, group in groups.items():
        group.sort(key=lambda call: call.start)
        if len(nodes) == 1:
            spans.setdefault(nodes[0], []).extend((call.start, call.end) for call in group)
        elif len(nodes) == len(group):
            for node, call in zip(nodes, group, strict=True):
                spans.setdefault(node, []).append((call.start, call.end))
    seconds = {node: _covered(found) for node, found in spans.items()}
    nx.set_node_attributes(network, seconds, "seconds")
    path = critical_path(network, "seconds")
    whole = sum(seconds.get(node, 0.0) for node in path) or 1.0
    edges = set(pairwise(path))
    return replace(
        graph,
        nodes=tuple(
            replace(
                node,
                seconds=seconds.get(node.id, 0.0),
                critical=node.id in path and node.id in seconds,
                details=(*node.details, *_duration(node.id, seconds, path, whole)),
            )
            for node in graph.nodes
        ),
        edges=tuple(replace(e, critical=(e.source, e.target) in edges) for e in graph.edges),
    )


def _places(graph: Graph, network: nx.DiGraph[str], call: TimedCall) -> tuple[str, ...]:
    """Return the nodes that contain a call.

    The calls of a fan-out may be on a line of their own, between the fan-out and its join.
    """
    making = [n for n in graph.nodes if call.name in network.nodes[n.id]["calls"].split(", ")]
    making = [node for node in making if node.span.file == call.file]
    here = [n.id for n in making if n.span.line <= call.line <= n.span.end_line]
    if not here:
        above = [node for node in making if node.span.line <= call.line]
        here = [node.id for node in sorted(above, key=lambda node: node.span.line)[-1:]]
    return tuple(here)


def _covered(spans: list[tuple[float, float]]) -> float:
    """Return the length of the union of spans."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _duration(node: str, seconds: dict[str, float], path: list[str], whole: float) -> list[str]:
    if node not in seconds:
        return []
    share = f", {seconds[node] / whole:.0%} of the path" if node in path else ""
    return [f"{seconds[node]:.2f} s{share}"]


def graphml(network: nx.DiGraph[str]) -> str:
    """Return a network as GraphML."""
    return "\n".join(nx.generate_graphml(network, named_key_ids=True)) + "\n"


def as_json(network: nx.DiGraph[str]) -> str:
    """Return a network as JSON: `nodes` and `edges`, as `networkx.node_link_graph` reads them."""
    return json.dumps(node_link(network), indent=2, ensure_ascii=False) + "\n"


def node_link(network: nx.DiGraph[str]) -> dict[str, Any]:
    """Return a network as plain data."""
    data: dict[str, Any] = nx.node_link_data(network, edges="edges")
    return data


def _attributes(node: Node, step: Step | None) -> dict[str, Any]:
    asked = step.resources if step else None
    return {
        "kind": node.kind,
        "title": node.title,
        "file": node.span.file,
        "line": node.span.line,
        "end_line": node.span.end_line,
        "step": node.step,
        "containers": 1 if step else 0,
        "retries": step.retries if step else 0,
        "retry_delay": float(step.retry_delay) if step else 0.0,
        "cpu": asked.cpu if asked else "",
        "memory": asked.memory if asked else "",
        "gpu": asked.gpu if asked else 0,
        "isolated": bool(step and step.isolated),
        "reason": node.reason,
        "cost": node.cost,
        "seconds": node.seconds,
    }


def _data_edges(plan: Plan, steps: str) -> dict[tuple[str, str], set[str]]:
    """Return the variables that one block sets and another reads, by (source, target).

    A definition reaches a block if there is a path on which no other block sets the variable.
    Control only jumps forward, so one pass over the blocks finds all of them.
    """
    functions = {f.name: f for f in ast.parse(steps).body if isinstance(f, Function)}
    reaching: dict[str, dict[str, set[str]]] = {block.name: {} for block in plan.blocks}
    found: dict[tuple[str, str], set[str]] = {}
    for block in plan.blocks:
        here = reaching[block.name]
        uses = _Variables(block, functions.get(block.name))
        for name in uses.read:
            for source in here.get(name, ()):
                found.setdefault((source, block.name), set()).add(name)
        after = {name: sources for name, sources in here.items() if name not in uses.replaced}
        for name in uses.set:
            after[name] = after.get(name, set()) | {block.name}
        for follower in filter(None, block.next):
            known = reaching[follower]
            for name, sources in after.items():
                known[name] = known.get(name, set()) | sources
    return found


class _Variables:
    """The variables of one block's function, by their names in frames.

    `read` are the variables that it loads from its frame and uses, `set` those that it may set, and
    `replaced` those that it certainly sets.
    """

    def __init__(self, block: Block, function: Function | None) -> None:
        self.read: set[str] = set()
        self.set: set[str] = set()
        self.replaced: set[str] = set()
        if function is None:
            return
        prefix = f"{block.activation}." if block.activation else ""
        taken: dict[str, str] = {}
        rest: list[ast.stmt] = []
        for stmt in function.body:
            match stmt:
                case ast.Assign(
                    targets=[ast.Name(id=name)],
                    value=ast.Subscript(
                        value=ast.Name(id="frame"), slice=ast.Constant(value=str(key))
                    ),
                ):
                    taken[name] = key
                case _:
                    rest.append(stmt)
        inside = [node for stmt in rest for node in ast.walk(stmt)]
        names = [node for node in inside if isinstance(node, ast.Name)]
        loaded = {node.id for node in names if isinstance(node.ctx, ast.Load)}
        stored = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        stored |= {node.name for node in inside if isinstance(node, _DEFINITIONS)}
        plain = (t for s in rest if isinstance(s, ast.Assign) for t in s.targets)
        certain = {target.id for target in plain if isinstance(target, ast.Name)}
        for name, key in taken.items():
            if name in loaded or key != prefix + name:
                self.read.add(key)
            if key != prefix + name:
                # The result of a helper, under the caller's name for it.
                stored.add(name)
                certain.add(name)
        if block.kind == "entry":
            stored |= taken.keys()
        passed = {key for stmt in rest if isinstance(stmt, ast.Return) for key in _passed(stmt)}
        self.set = {prefix + name for name in stored} | passed
        self.replaced = {prefix + name for name in certain} | passed


def _passed(stmt: ast.Return) -> list[str]:
    """Return what a block passes to another activation: `return "next", {"helper.x": …}`."""
    match stmt.value:
        case ast.Tuple(elts=[_, ast.Dict(keys=keys)]):
            return [
                key.value
                for key in keys
                if isinstance(key, ast.Constant) and type(key.value) is str
            ]
    return []
