"""The checkpoint graph of a flow as a networkx `DiGraph`, with control and data edges.

`kitaru graph` writes it as GraphML or JSON, for tools that read graphs. Importing networkx takes
longer than a compilation, so this module is imported only if a graph is requested.

Nodes are those of `kitaru_targets.graph.model`, by their ids. Attributes of a node:

| attribute | meaning |
|---|---|
| `kind`, `title` | as in the drawing: step, region, wait, log, memory, test, join, start, end |
| `file`, `line`, `end_line` | the lines of the source, from 1 |
| `step` | the step of the pipeline that starts here; empty if none does |
| `containers` | how many containers start to reach it from the node before: 1 for a step, else 0 |
| `retries`, `retry_delay` | attempts after the first, and seconds before the second |
| `cpu`, `memory`, `gpu`, `isolated` | what the step asks of its machine |
| `calls` | the checkpoints, model calls and waits in it, separated by commas |
| `reason` | the code of the rule by which a region was not cut; else empty |
| `critical` | whether the path with the most container starts leads through it |

Attributes of an edge: `control` (control may continue there), `cut` (in a new container), `label`
(of a test), and `data`: the variables, separated by commas, that the source sets and the target
reads. An edge with only data skips the nodes between.
"""

from __future__ import annotations

import ast
import json
from typing import Any

import networkx as nx

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
    path = set(critical_path(network))
    for name, attributes in network.nodes(data=True):
        attributes["critical"] = name in path
    for (source, target), variables in _data_edges(plan, steps).items():
        if source in network and target in network:
            if not network.has_edge(source, target):
                network.add_edge(source, target, control=False, cut=False, label="")
            network.edges[source, target]["data"] = ", ".join(sorted(variables))
    return network


def critical_path(network: nx.DiGraph[str]) -> list[str]:
    """Return the nodes of the path with the most sequential container starts."""
    control: nx.DiGraph[str] = nx.DiGraph()
    control.add_nodes_from(network)
    for source, target, attributes in network.edges(data=True):
        if attributes["control"]:
            control.add_edge(source, target, containers=network.nodes[target]["containers"])
    return list(nx.dag_longest_path(control, weight="containers", default_weight=0))


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
    }


def _data_edges(plan: Plan, steps: str) -> dict[tuple[str, str], set[str]]:
    """Return the variables that one block sets and another reads, by (source, target).

    A definition reaches a block if there is a path on which no other block sets the variable.
    Control only jumps forward, so one pass over the blocks finds all of them.
    """
    functions = {f.name: f for f in ast.parse(steps).body if isinstance(f, ast.FunctionDef)}
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

    def __init__(self, block: Block, function: ast.FunctionDef | None) -> None:
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
