"""What is drawn can be read: nothing covers anything, every edge arrives, all text is text."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise

import pytest
from kitaru_targets.graph import dot, mermaid, svg
from kitaru_targets.graph.text import lines_of, shortened

from .conftest import EVERYTHING, Show, Shown

SVG = "{http://www.w3.org/2000/svg}"
NUMBER = re.compile(r"-?\d+")
BRANCHES = """
    x = a(n)
    if x > 1:
        y = b(x)
        if y < 2:
            return c(y)
        if y == 3:
            if a(y):
                c(1)
            elif b(y):
                c(2)
        x = c(y)
    if n == 4:
        return a(n)
    if x:
        b(1)
    else:
        if n:
            c(1)
        else:
            a(9)
            b(9)
    return a(x) if b(x) else c(x)
"""


def drawn(shown: Shown) -> ET.Element:
    return ET.fromstring(svg(shown.graph))


def nodes(root: ET.Element) -> dict[str, ET.Element]:
    found = [e for e in root.iter(f"{SVG}g") if "node" in e.get("class", "").split()]
    return {node.get("id", ""): node for node in found}


def corners(path: str) -> list[tuple[int, int]]:
    """The points of a path of absolute moves; arcs are relative, and stay within."""
    x = y = 0
    points = []
    for letter, rest in re.findall(r"([MLHVaZ])([^MLHVaZ]*)", path):
        numbers = [int(n) for n in NUMBER.findall(rest)]
        match letter:
            case "M" | "L":
                x, y = numbers
            case "H":
                x = numbers[0]
            case "V":
                y = numbers[0]
            case "a":
                x, y = x + numbers[-2], y + numbers[-1]
        points.append((x, y))
    return points


def box(node: ET.Element) -> tuple[int, int, int, int]:
    shape = node.find(f"{SVG}path")
    assert shape is not None
    points = corners(shape.get("d", ""))
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


@pytest.mark.parametrize("body", [EVERYTHING, BRANCHES, "pass", "a(n)"])
def test_nothing_covers_anything_and_every_edge_arrives(body: str, show: Show) -> None:
    shown = show(body)
    root = drawn(shown)
    boxes = [box(node) for node in nodes(root).values()]
    assert len(boxes) == len(shown.graph.nodes)
    for one, other in combinations(boxes, 2):
        apart = one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]
        assert apart, (one, other)
    width, height = int(root.get("width", "")), int(root.get("height", ""))
    assert all(b[0] >= 0 and b[1] >= 0 and b[2] <= width and b[3] <= height for b in boxes)
    paths = [e for e in root.iter(f"{SVG}path") if "edge" in e.get("class", "").split()]
    assert len(paths) == len(shown.graph.edges)
    at = dict(zip([node.id for node in shown.graph.nodes], boxes, strict=True))
    for path, edge in zip(paths, shown.graph.edges, strict=True):
        points = corners(path.get("d", ""))
        left, top, right, bottom = at[edge.source]
        assert left <= points[0][0] <= right and top <= points[0][1] <= bottom
        assert points[-1] == ((at[edge.target][0] + at[edge.target][2]) // 2, at[edge.target][1])
        assert not crossed(points, [b for id_, b in at.items() if id_ != edge.source])


def crossed(
    points: list[tuple[int, int]], boxes: list[tuple[int, int, int, int]]
) -> list[tuple[int, int, int, int]]:
    """The boxes that a line of horizontal and vertical parts runs through."""
    found = []
    for (x1, y1), (x2, y2) in pairwise(points):
        left, right, top, bottom = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
        found += [b for b in boxes if left < b[2] and right > b[0] and top < b[3] and bottom > b[1]]
    return found


def test_what_follows_is_below_and_arms_are_side_by_side(show: Show) -> None:
    shown = show(EVERYTHING)
    elements = list(nodes(drawn(shown)).values())
    at = {n.id: box(e) for n, e in zip(shown.graph.nodes, elements, strict=True)}
    for edge in shown.graph.edges:
        assert at[edge.source][3] <= at[edge.target][1]
    assert at["b"][1] == at["b_c.if2"][1]
    assert at["b"][2] < at["b_c.if2"][0]


def test_shapes_tell_the_kinds_apart(show: Show) -> None:
    shown = show(EVERYTHING)
    found = {node.id: nodes(drawn(shown))[f"node-{i}"] for i, node in enumerate(shown.graph.nodes)}
    shapes = {id_: found[id_].find(f"{SVG}path").get("d") for id_ in found}  # type: ignore[union-attr]
    letters = {id_: re.sub(r"[-\d ]", "", shape or "") for id_, shape in shapes.items()}
    assert letters["ok"] != letters["a"] != letters["a.if1"] != letters["ok"]
    assert "region" in found["b_c"].get("class", "")
    assert "KIT310" in found["b_c"].get("aria-label", "")
    assert "runs in step b_c or b or c" in found["ok"].get("aria-label", "")


def test_the_users_text_stays_text(show: Show) -> None:
    shown = show(EVERYTHING)
    root = drawn(shown)
    assert {e.tag.removeprefix(SVG) for e in root.iter()} == {
        "svg", "style", "rect", "defs", "marker", "path", "text", "g", "title",
    }  # fmt: skip
    texts = ["".join(e.itertext()) for e in root.iter(f"{SVG}text")]
    assert 'if label == "</script><b>&"' in texts


def test_controls_and_what_reorders_are_shown_as_escapes(show: Show) -> None:
    shown = show('if label == "\u202e\x01": return a(n)\nreturn b(n)')
    texts = ["".join(e.itertext()) for e in drawn(shown).iter(f"{SVG}text")]
    assert 'if label == "\\u202e\\x01"' in texts


def test_long_text_is_cut_to_the_columns_it_takes() -> None:
    assert shortened("x" * 50, 10) == "x" * 9 + "…"
    assert shortened("漢" * 50, 10) == "漢" * 4 + "…"
    assert shortened("a\n  b", 10) == "a b"
    assert lines_of("a\x0cb\nc\u2028d\n\ne\n") == ["a\x0cb", "c\u2028d", "", "e"]


def test_mermaid_by_shape(show: Show) -> None:
    lines = mermaid(show(EVERYTHING).graph).splitlines()
    assert lines[0] == "flowchart TD"
    expected = [
        '  n1["a<br/>flow.py:13"]',
        '  n2{{"if len(x) #60; 20<br/>flow.py:14"}}',
        '  n4[["b_c<br/>flow.py:16-17<br/>b, c<br/>KIT310 while-stays-together'
        '<br/>cpu 2, memory 4Gi<br/>1 start for all its calls"]]',
        '  n6{{"if label == #34;#60;/script#62;#60;b#62;#38;#34;<br/>flow.py:20"}}',
        '  n10((" "))',
        '  n11[/"wait ok<br/>flow.py:24"/]',
        "  n0 --> n1",
        '  n2 ==>|"false"| n4',
        '  n2 -->|"true"| n3',
    ]
    assert [line for line in expected if line not in lines] == []
    node = re.compile(r'  n\d+[\[({/]+"(?:[A-Za-z0-9_ .,:()=+/-]|#\d+;|<br/>)*"[\])}/]+')
    edge = re.compile(r'  n\d+ (-->|==>)(\|"[a-z]+"\|)? n\d+')
    assert [s for s in lines[1:] if not node.fullmatch(s) and not edge.fullmatch(s)] == []


def test_dot_by_shape(show: Show) -> None:
    shown = show(EVERYTHING)
    lines = dot(shown.graph).splitlines()
    assert (lines[0], lines[-1]) == ('digraph "work" {', "}")
    string = r'"(?:[^"\\]|\\.)*"'
    node = re.compile(rf"  {string} \[label={string}, shape=[a-z]+(, [a-z]+=[^,]+)*\];")
    edge = re.compile(rf"  {string} -> {string}( \[[^\]]*\])?;")
    inner = lines[2:-1]
    assert len(inner) == len(shown.graph.nodes) + len(shown.graph.edges)
    assert [s for s in inner if not node.fullmatch(s) and not edge.fullmatch(s)] == []
    assert '  "a.if1" -> "b_c" [label="false", penwidth=2];' in lines
    assert any(r'label="if label == \"</script><b>&amp;\"\n' in line for line in lines)
    assert any(line.startswith('  "ok" [') and "parallelogram" in line for line in lines)
