"""Draw the steps of a flow, and where the cuts are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kitaru.ops.flow_ref import Location

if TYPE_CHECKING:
    from kitaru_targets.base import Target
    from kitaru_targets.graph import Graph

    from kitaru.wire.plan import Granularity

Form = Literal["mermaid", "dot", "svg", "html"]


@dataclass(frozen=True, slots=True)
class Drawn:
    """The graph of a flow: nodes and edges, and the source they come from.

    `target` is the target that it was cut for, None for the finest cut.
    """

    graph: Graph
    sources: dict[str, str]
    target: Target | None

    def text(self, form: Form = "mermaid") -> str:
        """Return the graph as Mermaid, DOT, SVG, or an HTML page with the source next to it."""
        from kitaru_targets.graph import dot, mermaid, page, svg

        match form:
            case "mermaid":
                return mermaid(self.graph)
            case "dot":
                return dot(self.graph)
            case "svg":
                return svg(self.graph)
        return page(self.graph, self.sources, self.target.title if self.target else "")


def graph(
    location: Location, target: str | None = None, granularity: Granularity = "checkpoint"
) -> Drawn:
    """Return the graph of a flow.

    Args:
        target: cut for this target; default as finely as any target can.
        granularity: how much of the flow becomes one step.

    Raises:
        SourceError: the source has errors.
        UsageError: the target is unknown.

    Example:
        print(graph(locate("review.py")).text("dot"))
    """
    from kitaru_compiler import compile_flow
    from kitaru_targets import registry
    from kitaru_targets.graph import graph_of

    from kitaru.ops.findings import named_from_here

    chosen = registry.get(target) if target else None
    profile = {"profile": chosen.profile} if chosen else {}
    with named_from_here(location):
        compilation = compile_flow(
            location.path,
            location.flow,
            granularity=granularity,
            module=location.module,
            **profile,
        )
    made = graph_of(compilation.plan, compilation.steps_py, compilation.sources)
    return Drawn(made, dict(compilation.sources), chosen)
