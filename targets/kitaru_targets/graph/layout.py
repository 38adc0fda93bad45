"""Lay out a graph: program order from top to bottom, arms side by side.

All nodes outside of arms are placed on one axis. An arm ends where all continuing paths join. An
arm without nodes keeps a lane, so that its edge passes next to the other arms.

This module computes joins itself: `kitaru compile` draws each build, and importing networkx would
add a fifth to its time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kitaru_targets.graph.model import Edge, Graph, Node

GAP = 34
LANE = 30
# Room for the box of a folded arm.
FOLDED_WIDTH = 150
Sizes = Mapping[str, tuple[int, int]]


@dataclass(slots=True)
class Arms:
    """The arms of a decision, or the nodes of a helper as the only arm, in a chain."""

    arms: list[Arm]


Item = str | Arms


@dataclass(slots=True)
class Arm:
    """A part of the drawing that can be folded into one box at its top.

    `owner` is the decision before it, and `entry` the edge that leads into it. The arm of a helper
    is owned by its call, and has no entry. The nodes are on an axis at `x`, from `top`. `items` are
    the nodes and inner arms from top to bottom.
    """

    owner: str
    entry: Edge | None
    nodes: tuple[str, ...]
    items: list[Item]
    x: int
    top: int
    height: int


@dataclass(slots=True)
class Drawing:
    """Nodes around an axis at x = 0: `places` are their top centres, `lanes` the x of an edge.

    The drawing extends from -`left` to `right` and from 0 to `height`, in pixels. `items` are the
    nodes and arms of the axis, `arms` all arms at any depth.
    """

    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    lanes: dict[Edge, int] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    arms: list[Arm] = field(default_factory=list)
    left: int = 0
    right: int = 0
    height: int = 0

    def put(self, node: str, size: tuple[int, int]) -> None:
        """Add a node on the axis, below all others."""
        self.places[node] = (0, self.height)
        self.items.append(node)
        self.widen(-size[0] // 2, size[0] // 2)
        self.height += size[1]

    def take(self, arm: Drawing, x: int, y: int) -> None:
        """Add the content of an arm, with its axis at `x` and its top at `y`."""
        self.places |= {node: (px + x, py + y) for node, (px, py) in arm.places.items()}
        self.lanes |= {edge: lane + x for edge, lane in arm.lanes.items()}
        for inner in arm.arms:
            inner.x += x
            inner.top += y
        self.arms += arm.arms
        self.widen(x - arm.left, x + arm.right)
        self.height = max(self.height, y + arm.height)

    def lane(self, edge: Edge, x: int) -> None:
        """Route an edge downwards at `x`."""
        self.lanes[edge] = x
        self.widen(x, x)

    def widen(self, left: int, right: int) -> None:
        self.left, self.right = max(self.left, -left), max(self.right, right)


def arrange(graph: Graph, sizes: Sizes) -> Drawing:
    """Return the position of each node, from its width and height in pixels."""
    out = outgoing(graph)
    reach = _reach(graph, out)
    nodes = {node.id: node for node in graph.nodes}
    arranger = _Arranger(nodes, sizes, out, reach, _meetings(out, reach))
    return arranger.chain(graph.nodes[0].id, None)


def outgoing(graph: Graph) -> dict[str, list[Edge]]:
    """Return the edges that leave each node, in order."""
    found: dict[str, list[Edge]] = {node.id: [] for node in graph.nodes}
    for edge in graph.edges:
        found[edge.source].append(edge)
    return found


@dataclass
class _Arranger:
    nodes: Mapping[str, Node]
    sizes: Sizes
    out: dict[str, list[Edge]]
    reach: dict[str, int]
    meetings: dict[str, str | None]
    placed: set[str] = field(default_factory=set)

    def chain(self, first: str, stop: str | None) -> Drawing:
        """Draw the nodes from `first` to the join of the surrounding arms."""
        drawing = Drawing()
        node: str | None = first
        while node is not None and node != stop and node not in self.placed:
            drawing.height += GAP if drawing.places else 0
            self.placed.add(node)
            drawing.put(node, self.sizes[node])
            edges = self.out[node]
            node = self.meetings[node]
            if len(edges) > 1:
                self._fork(drawing, edges, node or stop)
        self._helpers(drawing)
        return drawing

    def _fork(self, drawing: Drawing, edges: list[Edge], meeting: str | None) -> None:
        arms = {e: self.chain(e.target, meeting) for e in edges if e.target != meeting}
        for arm in arms.values():
            if len(arm.places) > 1:
                arm.widen(-FOLDED_WIDTH // 2, FOLDED_WIDTH // 2)
        furthest = max(self.reach[edge.target] for edge in edges)
        going = [edge for edge in edges if self.reach[edge.target] == furthest]
        middle = [edge for edge in going if edge in arms] or going[:1]
        xs = _columns([arms.get(edge, Drawing()) for edge in middle])
        places = dict(zip(middle, xs, strict=True))
        right = max(x + arms[e].right if e in arms else 0 for e, x in places.items())
        for edge in edges:
            if edge not in places:
                arm = arms.get(edge, Drawing())
                places[edge] = max(right, self._half(edge)) + LANE + arm.left
                right = places[edge] + arm.right
        top = drawing.height + GAP
        listed = []
        for edge, x in places.items():
            if edge in arms:
                arm = arms[edge]
                nodes = tuple(arm.places)
                listed.append(Arm(edge.source, edge, nodes, arm.items, x, top, arm.height))
                drawing.take(arm, x, top)
            else:
                drawing.lane(edge, x)
        if listed:
            drawing.arms += listed
            drawing.items.append(Arms(listed))

    def _helpers(self, drawing: Drawing) -> None:
        """Make an arm of each helper's nodes, which follow each other on the axis."""
        items = drawing.items
        # From the end, so that the helpers that a helper calls are arms already.
        for start in reversed(range(len(items))):
            name = items[start]
            if not isinstance(name, str) or self.nodes[name].kind != "call":
                continue
            end = start + 1
            while end < len(items) and self._is_inside(items[end], self.nodes[name].helper):
                end += 1
            inside = items[start:end]
            nodes = tuple(node for item in inside for node in _nodes_of(item))
            top = drawing.places[name][1]
            bottom = max(drawing.places[node][1] + self.sizes[node][1] for node in nodes)
            arm = Arm(name, None, nodes, inside, 0, top, bottom - top)
            drawing.arms.append(arm)
            items[start:end] = [Arms([arm])]

    def _is_inside(self, item: Item, helper: str) -> bool:
        # Arms follow their decision, and a helper is followed by a join of its caller.
        return isinstance(item, Arms) or self.nodes[item].helper == helper

    def _half(self, edge: Edge) -> int:
        return self.sizes[edge.source][0] // 2


def _nodes_of(item: Item) -> tuple[str, ...]:
    if isinstance(item, str):
        return (item,)
    return tuple(node for arm in item.arms for node in arm.nodes)


def _columns(arms: list[Drawing]) -> list[int]:
    """Return the axis of each arm, side by side around 0."""
    xs, cursor = [], 0
    for arm in arms:
        xs.append(cursor + arm.left)
        cursor = xs[-1] + arm.right + LANE
    middle = (xs[0] + xs[-1]) // 2
    return [x - middle for x in xs]


def _reach(graph: Graph, out: dict[str, list[Edge]]) -> dict[str, int]:
    """Return the last end reachable from each node, later nodes first."""
    place = {node.id: index for index, node in enumerate(graph.nodes)}
    found: dict[str, int] = {}
    for node in reversed(_in_order(graph, out)):
        found[node] = max((found[edge.target] for edge in out[node]), default=place[node])
    return found


def _meetings(out: dict[str, list[Edge]], reach: dict[str, int]) -> dict[str, str | None]:
    """Return where the paths from a node join again, ignoring paths that end earlier.

    These are the immediate post-dominators, computed from the ends to the start.
    """
    found: dict[str, str | None] = {}
    depth: dict[str | None, int] = {None: 0}
    for node in reach:
        ways: list[str | None] = [e.target for e in out[node] if reach[e.target] == reach[node]]
        meeting = ways[0] if ways else None
        for way in ways[1:]:
            while meeting != way:
                if depth[meeting] > depth[way]:
                    meeting = found[meeting or ""]
                else:
                    way = found[way or ""]
        found[node], depth[node] = meeting, depth[meeting] + 1
    return found


def _in_order(graph: Graph, out: dict[str, list[Edge]]) -> list[str]:
    """Sort the nodes so that every edge leads to a later node."""
    waiting = {node.id: 0 for node in graph.nodes}
    for edge in graph.edges:
        waiting[edge.target] += 1
    ready = [node for node, count in waiting.items() if not count]
    ordered = []
    while ready:
        node = ready.pop()
        ordered.append(node)
        for edge in out[node]:
            waiting[edge.target] -= 1
            if not waiting[edge.target]:
                ready.append(edge.target)
    return ordered
