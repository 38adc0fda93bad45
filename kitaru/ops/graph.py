"""Draw the steps of a flow and the cuts between them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from kitaru.errors import UsageError
from kitaru.ops.flow_ref import Location

if TYPE_CHECKING:
    import networkx as nx
    from kitaru_targets.base import Target
    from kitaru_targets.graph import Graph

    from kitaru.view import ExecutionView
    from kitaru.wire.plan import Granularity, Plan
    from kitaru.wire.records import InvocationRecord

Form = Literal["mermaid", "dot", "svg", "html", "graphml", "json"]


@dataclass(frozen=True, slots=True)
class Drawn:
    """The graph of a flow: nodes, edges and the source.

    `plan` and `steps` are the result of the compilation. `target` is the target of the cut, None
    for the finest cut.
    """

    graph: Graph
    sources: dict[str, str]
    target: Target | None
    plan: Plan
    steps: str

    def network(self) -> nx.DiGraph[str]:
        """Return the checkpoint graph, with control and data edges, for algorithms on graphs.

        `kitaru_targets.graph.network` describes its attributes.

        Example:
            nx.ancestors(drawn.network(), "publish")
        """
        from kitaru_targets.graph.network import network_of

        return network_of(self.graph, self.plan, self.steps)

    def timed(self, execution: ExecutionView) -> Drawn:
        """Return the graph with durations of an execution, and its critical path marked.

        Calls are found by their line and function, so the source must be as it was. Time between
        calls, such as the start of a container or a wait, is not included.

        Raises:
            UsageError: the execution has no call of this flow's source.

        Example:
            drawn.timed(client.executions.get("latest")).text("svg")
        """
        from kitaru_targets.graph.network import TimedCall, timed

        calls = [
            TimedCall(name, int(line), record.callee.rpartition(".")[2], *moments)
            for record in execution.overview().page
            if (moments := _moments(record))
            for name, _, line in [record.site.rpartition(":")]
            if line.isdecimal()
        ]
        graph = timed(self.graph, self.network(), calls)
        if not any(node.critical for node in graph.nodes):
            raise UsageError(
                f"The execution {execution.exec_id} has no call of {self.graph.flow}'s source.",
                help="Pass an execution of this flow, and the source that it ran.",
            )
        return replace(self, graph=graph)

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
            case "graphml" | "json":
                from kitaru_targets.graph.network import as_json, graphml

                return (graphml if form == "graphml" else as_json)(self.network())
        return page(self.graph, self.sources, self.target.title if self.target else "")


def _moments(record: InvocationRecord) -> tuple[float, float] | None:
    if not (record.started_at and record.ended_at):
        return None
    start, end = map(datetime.fromisoformat, (record.started_at, record.ended_at))
    return start.timestamp(), end.timestamp()


def graph(
    location: Location, target: str | None = None, granularity: Granularity = "checkpoint"
) -> Drawn:
    """Return the graph of a flow.

    Args:
        target: cut for this target; default the finest cut of any target.
        granularity: how much of the flow becomes one step.

    Raises:
        SourceError: the source has errors.
        UsageError: the target is unknown.

    Example:
        print(graph(locate("review.py")).text("dot"))
    """
    from kitaru_compiler import compile_flow
    from kitaru_compiler.compile import ANY_TARGET
    from kitaru_targets import registry
    from kitaru_targets.graph import graph_of

    from kitaru.ops.findings import named_from_here

    chosen = registry.get(target) if target else None
    profile = chosen.profile if chosen else ANY_TARGET
    with named_from_here(location):
        compilation = compile_flow(
            location.path,
            location.flow,
            granularity=granularity,
            profile=profile,
            module=location.module,
        )
    plan, steps = compilation.plan, compilation.steps_py
    start_seconds = chosen.profile.start_seconds if chosen else None
    made = graph_of(plan, steps, compilation.sources, start_seconds)
    return Drawn(made, dict(compilation.sources), chosen, plan, steps)
