"""Write a graph as Mermaid, which Markdown pages render."""

from __future__ import annotations

import re

from kitaru_targets.graph.draw import place
from kitaru_targets.graph.model import Edge, Graph, Kind, Node
from kitaru_targets.graph.text import shortened

WIDEST = 60
_SHAPES: dict[Kind, tuple[str, str]] = {
    "start": ("([", "])"),
    "step": ("[", "]"),
    "region": ("[[", "]]"),
    "wait": ("[/", "/]"),
    "log": ("(", ")"),
    "memory": ("[(", ")]"),
    "inbox": ("[/", "/]"),
    "test": ("{{", "}}"),
    "call": ("([", "])"),
    "join": ("((", "))"),
    "end": ("([", "])"),
}
# Mermaid reads labels as Markdown and HTML. All other characters are written as entities.
_SPECIAL = re.compile(r"[^A-Za-z0-9_ .,:()=+/-]")


def mermaid(graph: Graph) -> str:
    """Return the graph as a Mermaid flowchart. A thick arrow is a cut."""
    ids = {node.id: f"n{number}" for number, node in enumerate(graph.nodes)}
    lines = [f"  {ids[node.id]}{_node(node)}" for node in graph.nodes]
    lines += [f"  {ids[e.source]} {_arrow(e)} {ids[e.target]}" for e in graph.edges]
    critical = ",".join(ids[node.id] for node in graph.nodes if node.critical)
    if critical:
        lines += [
            "  classDef critical stroke:#b0231c,stroke-width:3px",
            f"  class {critical} critical",
        ]
    return "\n".join(["flowchart TD", *lines]) + "\n"


def _node(node: Node) -> str:
    before, after = _SHAPES[node.kind]
    if node.kind == "join":
        return f'{before}" "{after}'
    shown = (node.title, place(node), *node.details)
    return f'{before}"{"<br/>".join(_escaped(line) for line in shown)}"{after}'


def _arrow(edge: Edge) -> str:
    arrow = "==>" if edge.cut else "-->"
    return f'{arrow}|"{edge.label}"|' if edge.label else arrow


def _escaped(text: str) -> str:
    return _SPECIAL.sub(lambda found: f"#{ord(found[0])};", shortened(text, WIDEST))
