"""Fixtures of the graph tests: from a flow's body to its graph and sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent, indent

import pytest
from kitaru_compiler import compile_flow
from kitaru_targets.graph import Edge, Graph, Node, graph_of

from kitaru.wire.plan import Granularity

HEAD = """\
import kitaru
from kitaru import checkpoint, flow

@checkpoint
def a(x=0): return x
@checkpoint(retries=2, cpu=2, memory="4Gi")
def b(x=0): return x
@checkpoint
def c(x=0): return x

@flow
def work(n: int, label: str = "x"):
"""
# The line of the first statement of a body.
FIRST = HEAD.count("\n") + 1


@dataclass(frozen=True)
class Shown:
    """A graph and its source."""

    graph: Graph
    sources: dict[str, str]

    def node(self, id_: str) -> Node:
        return {node.id: node for node in self.graph.nodes}[id_]

    def ids(self, kind: str) -> list[str]:
        return [node.id for node in self.graph.nodes if node.kind == kind]

    def edges(self) -> set[tuple[str, str, str]]:
        return {(edge.source, edge.label, edge.target) for edge in self.graph.edges}

    def cuts(self) -> set[tuple[str, str]]:
        return {(edge.source, edge.target) for edge in self.graph.edges if edge.cut}

    def leaving(self, id_: str) -> list[Edge]:
        return [edge for edge in self.graph.edges if edge.source == id_]


Show = Callable[..., Shown]


@pytest.fixture
def show(tmp_path: Path) -> Show:
    """Return a function that creates the graph of a flow with this body."""

    def shown(body: str, granularity: Granularity = "checkpoint", helper: str = "") -> Shown:
        path = tmp_path / "flow.py"
        head = HEAD.replace("@flow\n", f"{helper}@flow\n")
        path.write_text(head + indent(dedent(body).strip("\n"), "    ") + "\n", encoding="utf-8")
        made = compile_flow(path, granularity=granularity)
        graph = graph_of(made.plan, made.steps_py, made.sources)
        return Shown(graph, made.sources)

    return shown


# One of each kind of graph node.
EVERYTHING = """
    x = a(n)
    if len(x) < 20:
        return "early"
    while not b(x):
        x = c(x)
    if x > 3:
        x = b(x)
    elif label == "</script><b>&":
        kitaru.log(x=x)
    else:
        x = c(x)
    ok = kitaru.wait(name="ok", schema=bool)
    return a(x) if ok else x
"""
