"""Draw a graph: sizes, shapes and lines, in pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kitaru_templates.render import render

from kitaru.wire.printable import visible
from kitaru_targets.graph.layout import GAP, Arm, Drawing, Item, arrange, outgoing
from kitaru_targets.graph.model import Edge, Graph, Node
from kitaru_targets.graph.text import columns, shortened

MARGIN = 24
WIDEST = 40
_TITLE, _DETAIL = 7.9, 6.7
_LINE = 16
_JOIN = 14
# The height of the box that replaces a folded arm.
FOLDED = 28


def svg(graph: Graph) -> str:
    """Return the graph as an SVG document, in the reader's light or dark theme."""
    values = {**drawn(graph), "style": render("graph.css.j2", {}), "links": {}}
    return render("graph.svg.j2", values)


def drawn(graph: Graph) -> dict[str, Any]:
    """Return the data for the template of the drawing.

    `layout` is what the page's script needs to fold arms: the boxes of nodes, the arms with the
    items inside, and the points of edges.
    """
    texts = {node.id: _text(node) for node in graph.nodes}
    sizes = {node.id: _size(node, texts[node.id]) for node in graph.nodes}
    drawing = arrange(graph, sizes)
    moved = {n: (x + drawing.left + MARGIN, y + MARGIN) for n, (x, y) in drawing.places.items()}
    forks = {id_: len(edges) > 1 for id_, edges in outgoing(graph).items()}
    numbers = {node.id: f"node-{number}" for number, node in enumerate(graph.nodes)}
    folds = _Folds(graph, drawing, numbers)
    edges = [
        {
            **_edge(edge, drawing, moved, sizes, forks[edge.source]),
            "source": numbers[edge.source],
            "target": numbers[edge.target],
        }
        for edge in graph.edges
    ]
    shown = folds.shown(dict(zip(graph.edges, edges, strict=True)))
    exits = folds.exits(moved)
    return {
        "flow": graph.flow,
        "width": drawing.left + drawing.right + 2 * MARGIN,
        "height": drawing.height + 2 * MARGIN,
        "nodes": [
            {
                **_node(number, node, texts[node.id], moved[node.id], sizes[node.id]),
                "folds": [fold for fold in shown if fold["owner"] == numbers[node.id]],
            }
            for number, node in enumerate(graph.nodes)
        ],
        "edges": edges,
        "exits": exits,
        "layout": {
            "folded": FOLDED,
            "items": folds.items,
            "boxes": {numbers[id_]: [*moved[id_], *sizes[id_]] for id_ in numbers},
            "folds": [
                {key: fold[key] for key in ("id", "owner", "nodes", "box")} for fold in shown
            ],
            "edges": [
                {key: edge[key] for key in ("source", "target", "points", "own")}
                for edge in (*edges, *exits)
            ],
        },
    }


class _Folds:
    """The arms of a drawing that can be folded, each with the box that replaces it."""

    def __init__(self, graph: Graph, drawing: Drawing, numbers: Mapping[str, str]) -> None:
        self._graph, self._numbers = graph, numbers
        self._nodes = {node.id: node for node in graph.nodes}
        self._left = drawing.left + MARGIN
        self._arms = [arm for arm in drawing.arms if self._is_foldable(arm)]
        self._ids = {id(arm): f"fold-{number}" for number, arm in enumerate(self._arms)}
        self.items = self._items(drawing.items)

    def shown(self, edges: Mapping[Edge, dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the box and the label of each arm; a branch has the label of its edge."""
        found = []
        for arm in self._arms:
            owner, fold = self._nodes[arm.owner], self._fold(arm)
            if arm.entry:
                edge = edges[arm.entry]
                label, x, y = edge["label"], edge["label_x"], edge["label_y"]
                anchor, edge["label"] = edge["anchor"], ""
            else:
                label, anchor = "helper", "start"
                x, y = arm.x + self._left + self._owner_width(owner) // 2 + 6, arm.top + MARGIN + 18
            width = int((columns(label) + 2) * _DETAIL) + 6
            hit = x - 3 if anchor == "start" else x - width + 3
            place = {"label_x": x, "label_y": y, "anchor": anchor, "hit_x": hit}
            found.append({**fold, **place, "label": label, "hit_width": width})
        return found

    def exits(self, at: Mapping[str, tuple[int, int]]) -> list[dict[str, Any]]:
        """Return the edges that leave folded arms."""
        found = []
        for arm in self._arms:
            inside = set(arm.nodes)
            leaving = [
                e for e in self._graph.edges if e.source in inside and e.target not in inside
            ]
            x, bottom = arm.x + self._left, arm.top + MARGIN + FOLDED
            for target in dict.fromkeys(edge.target for edge in leaving):
                tx, ty = at[target]
                turn = [(x, ty - GAP // 2), (tx, ty - GAP // 2)] if x != tx else []
                points = [(x, bottom), *turn, (tx, ty)]
                cut = any(edge.cut for edge in leaving if edge.target == target)
                ends = {"source": self._ids[id(arm)], "target": self._numbers[target]}
                found.append(
                    {**ends, "points": points, "own": 1, "path": _line(points), "cut": cut}
                )
        return found

    def _is_foldable(self, arm: Arm) -> bool:
        return sum(self._nodes[node].kind not in ("join", "call") for node in arm.nodes) > 1

    def _owner_width(self, owner: Node) -> int:
        return _size(owner, _text(owner))[0]

    def _fold(self, arm: Arm) -> dict[str, Any]:
        text = self._summary(arm)
        x, y = arm.x + self._left, arm.top + MARGIN
        width = int(columns(text) * _DETAIL) + 36
        title = self._nodes[arm.owner].title
        label = arm.entry.label if arm.entry else "helper"
        what = f"{label}, branch of {title}" if arm.entry else f"{label} {title}"
        return {
            "id": self._ids[id(arm)],
            "owner": self._numbers[arm.owner],
            "nodes": [self._numbers[node] for node in arm.nodes],
            "box": [x, y, width, FOLDED],
            "shape": _rounded(x - width // 2, y, width, FOLDED, FOLDED // 2),
            "text": text,
            "said": visible(f"{what}: {text}"),
        }

    def _summary(self, arm: Arm) -> str:
        inside = [self._nodes[node] for node in arm.nodes]
        steps = sum(bool(node.step) for node in inside)
        waits = sum(node.kind == "wait" for node in inside)
        shown = counted([(steps, "step"), (waits, "wait")]) or f"{len(inside)} nodes"
        name = self._nodes[arm.owner].title
        return shown if arm.entry else f"{shortened(name, WIDEST // 2)}: {shown}"

    def _items(self, items: list[Item]) -> list[Any]:
        return [
            self._numbers[item]
            if isinstance(item, str)
            else [
                {
                    "fold": self._ids.get(id(arm), ""),
                    "height": arm.height,
                    "isBranch": bool(arm.entry),
                    "items": self._items(arm.items),
                }
                for arm in item.arms
            ]
            for item in items
        ]


def counted(counts: Iterable[tuple[int, str]]) -> str:
    """Return numbers of things, as `2 steps, 1 wait`."""
    return ", ".join(f"{n} {word}{'s' if n > 1 else ''}" for n, word in counts if n)


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
    facts = [shortened(line, WIDEST) for line in (place(node), *node.details)]
    lines = [shortened(node.title, WIDEST), facts[0]]
    for fact in facts[1:]:
        joined = f"{lines[-1]} · {fact}"
        if columns(joined) <= WIDEST:
            lines[-1] = joined
        else:
            lines.append(fact)
    return lines


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
        "is_critical": node.critical,
        "shape": _shape(node, x - size[0] // 2, y, *size),
        "x": x,
        "text": [(y + 21 + _LINE * index, line) for index, line in enumerate(text)],
        "said": said(node),
        # A name contains the text that is seen.
        "name": f"{node.kind}: {', '.join(text)}",
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
        case "start" | "end" | "call":
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
    own = len(points)
    points += [(x, low), (tx, low)] if x != tx else []
    points.append((tx, ty))
    return {
        "points": points,
        "own": own,
        "path": _line(points),
        "cut": edge.cut,
        "critical": edge.critical,
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
