"""The predecessors of a step, and the conditions under which it is reached."""

from __future__ import annotations

from hashlib import sha256

from kitaru_targets.graph import Edge, Graph, Node

# The number of paths through conditions multiplies. More than this are counted, but not listed.
MOST = 16
_PASSED = ("join", "log", "memory", "test")


def arrivals(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Return for each node the ways it is reached, as `research → if short: false`.

    Joins, logs and memory are passed: what stands before them counts.
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
    digest = sha256("\n".join(sorted(ways)).encode()).hexdigest()
    return (f"{len(ways)} ways ({digest[:12]})",)
