"""Draw a graph: sizes, shapes and lines, in pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kitaru_templates.render import render

from kitaru.wire.printable import visible
from kitaru_targets.graph.layout import GAP, Drawing, arrange, outgoing
from kitaru_targets.graph.model import Edge, Graph, Node
from kitaru_targets.graph.text import columns, shortened

MARGIN = 24
WIDEST = 40
_TITLE, _DETAIL = 7.9, 6.7
_LINE = 16
_JOIN = 14


def svg(graph: Graph) -> str:
    """Return the graph as an SVG document, in the reader's light or dark theme."""
    return render(
        "graph.svg.j2", {**drawn(graph), "style": render("graph.css.j2", {}), "links": {}}
    )


def drawn(graph: Graph) -> dict[str, Any]:
    """Return the data for the template of the drawing."""
    texts = {node.id: _text(node) for node in graph.nodes}
    sizes = {node.id: _size(node, texts[node.id]) for node in graph.nodes}
    drawing = arrange(graph, sizes)
    moved = {n: (x + drawing.left + MARGIN, y + MARGIN) for n, (x, y) in drawing.places.items()}
    forks = {id_: len(edges) > 1 for id_, edges in outgoing(graph).items()}
    numbers = {node.id: f"node-{number}" for number, node in enumerate(graph.nodes)}
    return {
        "flow": graph.flow,
        "width": drawing.left + drawing.right + 2 * MARGIN,
        "height": drawing.height + 2 * MARGIN,
        "nodes": [
            _node(number, node, texts[node.id], moved[node.id], sizes[node.id])
            for number, node in enumerate(graph.nodes)
        ],
        "edges": [
            {
                **_edge(edge, drawing, moved, sizes, forks[edge.source]),
                "source": numbers[edge.source],
                "target": numbers[edge.target],
            }
            for edge in graph.edges
        ],
    }


def said(node: Node) -> str:
    """Return a description of a node, for tooltips and screen readers."""
    kind = {"start": "flow", "test": "test", "end": "early end" if node.early else "end"}
    parts = [f"{kind.get(node.kind, node.kind)} {node.title}", place(node)]
    parts += node.details
    if not node.step and node.runs_in:
        parts.append(f"runs in step {' or '.join(node.runs_in)}")
    return visible(", ".join(parts))


def place(node: Node) -> str:
    """Return the source location of a node, as `flow.py:3-5`."""
    span = node.span
    last = f"-{span.end_line}" if span.end_line > span.line else ""
    return f"{span.file}:{span.line}{last}"


def _text(node: Node) -> list[str]:
    if node.kind == "join":
        return []
    return [shortened(line, WIDEST) for line in (node.title, place(node), *node.details)]


def _size(node: Node, text: list[str]) -> tuple[int, int]:
    if not text:
        return _JOIN, _JOIN
    widest = max(columns(text[0]) * _TITLE, *(columns(line) * _DETAIL for line in text[1:]))
    slanted = 40 if node.kind in ("test", "wait") else 24
    return 2 * (int(widest + slanted) // 2), _LINE * len(text) + 14


def _node(
    number: int, node: Node, text: list[str], at: tuple[int, int], size: tuple[int, int]
) -> dict[str, Any]:
    x, y = at
    return {
        "id": f"node-{number}",
        "node": node,
        "kind": node.kind,
        "is_step": bool(node.step),
        "shape": _shape(node, x - size[0] // 2, y, *size),
        "x": x,
        "text": [(y + 21 + _LINE * index, line) for index, line in enumerate(text)],
        "said": said(node),
    }


def _shape(node: Node, x: int, y: int, w: int, h: int) -> str:
    right, bottom, middle = x + w, y + h, y + h // 2
    match node.kind:
        case "test":
            return f"M{x} {middle} L{x + 14} {y} H{right - 14} L{right} {middle} " + (
                f"L{right - 14} {bottom} H{x + 14} Z"
            )
        case "wait":
            return f"M{x + 14} {y} H{right} L{right - 14} {bottom} H{x} Z"
        case "start" | "end":
            return _rounded(x, y, w, h, h // 2)
        case "join":
            return _rounded(x, y, w, h, w // 2)
    return _rounded(x, y, w, h, 6)


def _rounded(x: int, y: int, w: int, h: int, r: int) -> str:
    right, bottom, turn = x + w, y + h, f"a{r} {r} 0 0 1"
    return (
        f"M{x + r} {y} H{right - r} {turn} {r} {r} V{bottom - r} {turn} -{r} {r} "
        f"H{x + r} {turn} -{r} -{r} V{y + r} {turn} {r} -{r} Z"
    )


def _edge(
    edge: Edge,
    drawing: Drawing,
    at: Mapping[str, tuple[int, int]],
    sizes: Mapping[str, tuple[int, int]],
    forks: bool,
) -> dict[str, Any]:
    (sx, sy), (tx, ty) = at[edge.source], at[edge.target]
    (width, height) = sizes[edge.source]
    lane = drawing.lanes.get(edge)
    x = (tx if forks else sx) if lane is None else lane + drawing.left + MARGIN
    low = ty - GAP // 2
    if x == sx:
        points, label = [(sx, sy + height)], (sx + 6, sy + height + 14, "start")
    elif abs(x - sx) > width // 2 + 8:
        side, middle = sx + (width // 2 if x > sx else -(width // 2)), sy + height // 2
        points, label = [(side, middle), (x, middle)], _beside(side, middle, x > sx)
    else:
        bend = sy + height + GAP // 3
        points, label = [(sx, sy + height), (sx, bend), (x, bend)], (x + 6, bend + 13, "start")
    points += [(x, low), (tx, low)] if x != tx else []
    return {
        "path": _line([*points, (tx, ty)]),
        "cut": edge.cut,
        "label": edge.label,
        "label_x": label[0],
        "label_y": label[1],
        "anchor": label[2],
    }


def _beside(x: int, y: int, to_the_right: bool) -> tuple[int, int, str]:
    return (x + 6, y - 5, "start") if to_the_right else (x - 6, y - 5, "end")


def _line(points: list[tuple[int, int]]) -> str:
    (x, y), *rest = points
    parts = [f"M{x} {y}"]
    for px, py in rest:
        parts.append(f"V{py}" if px == x else f"H{px}")
        x = px
    return " ".join(parts)
