"""Show a compiled flow as a graph: Mermaid, DOT, SVG and an HTML page."""

from kitaru_targets.graph.dot import dot
from kitaru_targets.graph.draw import svg
from kitaru_targets.graph.mermaid import mermaid
from kitaru_targets.graph.model import Edge, Graph, Node, graph_of
from kitaru_targets.graph.page import page
from kitaru_targets.graph.text import decoded

__all__ = ["Edge", "Graph", "Node", "decoded", "dot", "graph_of", "mermaid", "page", "svg"]
