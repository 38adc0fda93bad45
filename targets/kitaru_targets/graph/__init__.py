"""Decides how a compiled flow is shown as a graph: Mermaid, DOT, SVG and a page of its own."""

from .dot import dot
from .draw import svg
from .mermaid import mermaid
from .model import Edge, Graph, Node, graph_of
from .page import page
from .text import decoded

__all__ = ["Edge", "Graph", "Node", "decoded", "dot", "graph_of", "mermaid", "page", "svg"]
