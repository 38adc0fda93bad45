"""Write a graph as DOT, the language of Graphviz."""

from __future__ import annotations

from kitaru.wire.printable import visible
from kitaru_targets.graph.draw import place
from kitaru_targets.graph.model import Edge, Graph, Kind, Node
from kitaru_targets.graph.text import shortened

WIDEST = 60
_STYLES: dict[Kind, str] = {
    "start": 'shape=box, style="rounded"',
    "step": "shape=box",
    "region": 'shape=box, style="dashed"',
    "wait": "shape=parallelogram",
    "log": 'shape=box, style="rounded"',
    "memory": "shape=cylinder",
    "inbox": "shape=parallelogram",
    "test": "shape=hexagon",
    "call": 'shape=box, style="rounded"',
    "join": "shape=circle, width=0.15, fixedsize=true",
    "end": 'shape=box, style="rounded"',
}


def dot(graph: Graph) -> str:
    """Return the graph in DOT. A bold arrow is a cut; a step has a bold outline."""
    lines = [f"digraph {_quoted(graph.flow)} {{", '  node [fontname="monospace"];']
    lines += [f"  {_quoted(node.id)} [{_node(node)}];" for node in graph.nodes]
    lines += [f"  {_quoted(e.source)} -> {_quoted(e.target)}{_edge(e)};" for e in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


def _node(node: Node) -> str:
    shown = () if node.kind == "join" else (node.title, place(node), *node.details)
    label = "\\n".join(_escaped(shortened(line, WIDEST)) for line in shown)
    width = ", penwidth=2" if node.step else ""
    colour = ', color="#b0231c"' if node.critical else ""
    return f'label="{label}", {_STYLES[node.kind]}{width}{colour}'


def _edge(edge: Edge) -> str:
    parts = [f"label={_quoted(edge.label)}"] if edge.label else []
    parts += ["penwidth=2"] if edge.cut else []
    return f" [{', '.join(parts)}]" if parts else ""


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    # Graphviz also expands HTML entities in plain strings.
    text = visible(text).replace("&", "&amp;")
    return text.replace("\\", "\\\\").replace('"', '\\"')
