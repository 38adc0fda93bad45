"""An HTML page that shows the graph next to the source, in one file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from kitaru_compiler.diagnostics.catalogue import load
from kitaru_templates.render import render

from kitaru.wire.printable import visible
from kitaru_targets.graph.draw import counted, drawn, said
from kitaru_targets.graph.model import Graph, Node
from kitaru_targets.graph.text import highlighted


def page(graph: Graph, sources: Mapping[str, str], title: str = "") -> str:
    """Return the graph as one HTML page that works without a network.

    Args:
        sources: the text of the project's files by path; those in the graph are shown.
        title: the displayed name of the target; empty if the graph has no target.
    """
    style, script = render("index.css.j2", {}), render("index.js.j2", {})
    files = list(dict.fromkeys(node.span.file for node in graph.nodes))
    page = _Page(graph, files)
    values = {
        **drawn(graph),
        "is_critical": any(node.critical for node in graph.nodes),
        "style": "",
        "title": title,
        "summary": _summary(graph, title),
        "links": {f"node-{i}": page.line(n, n.span.line) for i, n in enumerate(graph.nodes)},
        "lines": {f"node-{i}": " ".join(page.lines(n)) for i, n in enumerate(graph.nodes)},
        "files": [page.file(name, sources.get(name, "")) for name in files],
        "page_style": style,
        "script": script,
        "style_digest": _digest(style),
        "script_digest": _digest(script),
    }
    return render("index.html.j2", values)


class _Page:
    def __init__(self, graph: Graph, files: Sequence[str]) -> None:
        self._number = {name: number for number, name in enumerate(files)}
        self._at: dict[str, list[tuple[int, Node]]] = {}
        self._after: dict[str, list[tuple[int, Node]]] = {}
        for number, node in enumerate(graph.nodes):
            for line in self.lines(node):
                self._at.setdefault(line, []).append((number, node))
            if node.reason:
                last = self.line(node, node.span.end_line)
                self._after.setdefault(last, []).append((number, node))

    def line(self, node: Node, line: int) -> str:
        """Return the id of a line of the node's file."""
        return f"line-{self._number[node.span.file]}-{line}"

    def lines(self, node: Node) -> list[str]:
        """Return the ids of the node's lines."""
        return [self.line(node, line) for line in range(node.span.line, node.span.end_line + 1)]

    def file(self, name: str, text: str) -> dict[str, Any]:
        """Return the template's data for one file."""
        lines = enumerate(highlighted(text), 1)
        return {"name": name, "lines": [self._line(name, number, parts) for number, parts in lines]}

    def _line(self, file: str, number: int, parts: list[tuple[str, str]]) -> dict[str, Any]:
        id_ = f"line-{self._number[file]}-{number}"
        nodes = self._at.get(id_, [])
        return {
            "id": id_,
            "number": number,
            "parts": [(kind, visible(text)) for kind, text in parts],
            "nodes": " ".join(f"node-{index}" for index, _ in nodes),
            "first": f"node-{nodes[0][0]}" if nodes else "",
            "said": "; ".join(said(node) for _, node in nodes),
            "why": [_why(index, node) for index, node in self._after.get(id_, [])],
        }


def _why(index: int, node: Node) -> dict[str, Any]:
    """Return the text below a region: the finding, its explanation and the fix."""
    rule = load(node.reason)
    return {
        "id": f"why-{index}",
        "code": rule.code,
        "name": rule.name,
        "node": f"node-{index}",
        "what": _marked(node.why or rule.what),
        "why": _marked(rule.why),
        "fix": _marked(node.fix),
    }


def _marked(text: str) -> list[tuple[bool, str]]:
    """Split a text into parts, each with whether it is code between backticks."""
    parts = enumerate(visible(text).split("`"))
    return [(number % 2 == 1, part) for number, part in parts if part]


def _summary(graph: Graph, title: str) -> str:
    steps = sum(bool(node.step) for node in graph.nodes)
    waits = sum(node.kind == "wait" for node in graph.nodes)
    regions = sum(node.kind == "region" for node in graph.nodes)
    counts = [(steps, "step"), (waits, "wait"), (regions, "region")]
    shown = counted(counts)
    return f"{shown} for {title}" if title else shown


def _digest(text: str) -> str:
    """Return the hash of a script or a style for a content security policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
