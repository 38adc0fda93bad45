"""The graph of a flow: steps, waits, conditions, joins, ends, and edges between them.

It is built from the files of a compilation: the plan, the generated blocks and the sources.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from kitaru_compiler.cut.latency import shown
from kitaru_compiler.diagnostics.catalogue import load

from kitaru.wire.plan import Block, Parameter, Plan, PlannedAgent, Span, Step
from kitaru.wire.structs import Struct
from kitaru_targets.graph.control_flow import Jump, Perhaps, Test, Way, ways
from kitaru_targets.graph.text import lines_of, written

Kind = Literal[
    "start", "step", "region", "wait", "log", "memory", "inbox", "test", "call", "join", "end"
]
_KINDS: dict[str, Kind] = {
    "entry": "start",
    "region": "region",
    "flow": "region",
    "wait": "wait",
    "log": "log",
    "memory": "memory",
    "inbox": "inbox",
    "join": "join",
    "call": "call",
    "return": "join",
    "gather": "join",
}


class Node(Struct):
    """A node of the graph.

    `step` is the pipeline's step that starts here, empty if the node runs in the process before it.
    `runs_in` are all steps whose process may reach the node. `early` marks an end before the last
    block. `reason` is the code of the rule that keeps a region together. `why` and `fix` are the
    rule's texts for this place, and `cost` is what the region costs in starts of containers.
    `helper` names the call of a helper that the node is part of. With the durations of an
    execution, `seconds` is how long the calls of the node took, and `critical` marks the critical
    path.
    """

    id: str
    kind: Kind
    title: str
    span: Span
    step: str = ""
    runs_in: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    reason: str = ""
    why: str = ""
    fix: str = ""
    cost: str = ""
    early: bool = False
    helper: str = ""
    seconds: float = 0.0
    critical: bool = False


class Edge(Struct):
    """A possible path of control between two nodes; with `cut`, a new container starts there."""

    source: str
    target: str
    label: str = ""
    cut: bool = False
    critical: bool = False


class Graph(Struct):
    """The graph of one flow, nodes and edges in program order."""

    flow: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def node(self, id: str) -> Node:
        """Return the node with this id; raise KeyError if it does not exist."""
        return {node.id: node for node in self.nodes}[id]


def graph_of(
    plan: Plan,
    steps: str,
    sources: Mapping[str, str],
    start_seconds: tuple[int, int] | None = None,
) -> Graph:
    """Return the graph of a compiled flow.

    Args:
        steps: the text of `steps.py`.
        sources: the text of each project file, by its path in the plan.
        start_seconds: the time in which a container starts on the target, low and high, if known.

        graph_of(compilation.plan, compilation.steps_py, compilation.sources).nodes[0].title
    """
    lines = {file: lines_of(text) for file, text in sources.items()}
    return _Builder(plan, ways(plan, steps), lines, start_seconds).build()


@dataclass
class _Builder:
    plan: Plan
    ways: Mapping[str, Way]
    lines: Mapping[str, list[str]]
    start_seconds: tuple[int, int] | None
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    # By identity: two paths may lead to one test.
    tests: dict[int, str] = field(default_factory=dict)

    def build(self) -> Graph:
        self.cuts = {step.entry for step in self.plan.steps}
        self.named = {step.name: step for step in self.plan.steps}
        # Each call that such a block submits also starts a container.
        fans = {step.blocks[0]: step for step in self.plan.steps if step.per_item}
        self.cuts |= fans.keys()
        self.named |= fans
        self.in_steps: dict[str, list[str]] = {}
        for step in self.plan.steps:
            for name in step.blocks:
                self.in_steps.setdefault(name, []).append(step.name)
        reached = {self.plan.steps[0].entry}
        for block in self.plan.blocks:
            if block.name in reached:
                reached.update(name for name in block.next if name)
                self._block(block)
        return Graph(self.plan.flow, tuple(self.nodes.values()), tuple(self.edges))

    def _block(self, block: Block) -> None:
        # The first step also contains the block after its entry, and has that block's name.
        step = self.named.get(block.name)
        cost = _cost(self.start_seconds) if block.reason and step else ""
        self.nodes[block.name] = Node(
            id=block.name,
            kind=_KINDS.get(block.kind, "step"),
            title=f"{step.name} × calls" if step and step.per_item else self._title(block),
            span=self._span(block),
            step=step.name if step else "",
            runs_in=tuple(self.in_steps.get(block.name, ())),
            details=tuple(filter(None, [*self._parts(block), *_details(block, step), cost])),
            reason=block.reason,
            why=block.why,
            fix=block.fix,
            cost=cost,
            helper=block.activation,
        )
        self._way(block, block.name, "", self.ways.get(block.name))

    def _title(self, block: Block) -> str:
        agents = self._agents(block)
        # An agent in code that stays together for another reason is one of its parts.
        if len(agents) == 1 and block.kind == "region" and not block.reason:
            return f"agent {agents[0].name}"
        return _title(self.plan, block)

    def _parts(self, block: Block) -> list[str]:
        """Return the models and tools of the agents that a block runs."""
        agents = self._agents(block)
        alone = len(agents) == 1 and not block.reason
        found = []
        for agent in agents:
            found += [] if alone else [f"agent {agent.name}"]
            found += [
                *agent.parts,
                agent.harness if agent.durable else f"{agent.harness}, not durable",
            ]
        return found

    def _agents(self, block: Block) -> list[PlannedAgent]:
        return [agent for agent in self.plan.agents if agent.block == block.name]

    def _span(self, block: Block) -> Span:
        if block.kind != "entry":
            return block.span
        return Span(self.plan.file, self.plan.line, 1, self.plan.line, 1)

    def _way(self, block: Block, source: str, label: str, way: Way) -> None:
        match way:
            case Jump(target=str(name)):
                self.edges.append(Edge(source, name, label, cut=name in self.cuts))
            case Test():
                self._test(block, source, label, way)
            case Perhaps(stmt, otherwise):
                self._end(block, source, "perhaps", "return …", stmt)
                self._way(block, source, label, otherwise)
            case Jump(stmt=stmt):
                self._end(block, source, label, self._ending(block, stmt), stmt)
            case None:
                place = ast.Pass(lineno=block.span.end_line, end_lineno=block.span.end_line)
                self._end(block, source, label, "end", place)

    def _test(self, block: Block, source: str, label: str, test: Test) -> None:
        known = self.tests.get(id(test))
        id_ = known or self._new(block, "if")
        self.edges.append(Edge(source, id_, label))
        if known:
            return
        self.tests[id(test)] = id_
        text = f"if {self._written(block, test.expression)}"
        self.nodes[id_] = self._inner(id_, "test", text, block, test.expression)
        self._way(block, id_, "true", test.true)
        self._way(block, id_, "false", test.false)

    def _end(self, block: Block, source: str, label: str, text: str, stmt: ast.stmt) -> None:
        id_ = self._new(block, "end")
        self.nodes[id_] = self._inner(id_, "end", text, block, stmt)
        self.edges.append(Edge(source, id_, label))

    def _ending(self, block: Block, stmt: ast.stmt) -> str:
        match stmt:
            case ast.Return(value=ast.Tuple(elts=[_, ast.Constant(value=None)])):
                return "end"
            case ast.Return(value=ast.Tuple(elts=[_, result])):
                return f"return {self._written(block, result)}"
        return self._written(block, stmt)

    def _written(self, block: Block, node: ast.expr | ast.stmt) -> str:
        return written(self.lines.get(block.span.file, []), node)

    def _inner(
        self, id_: str, kind: Kind, text: str, block: Block, place: ast.expr | ast.stmt
    ) -> Node:
        last = place.end_lineno or place.lineno
        span = Span(block.span.file, place.lineno, 1, last, 1)
        early = kind == "end" and block.index < self.plan.blocks[-1].index
        runs_in = tuple(self.in_steps.get(block.name, ()))
        return Node(id_, kind, text, span, runs_in=runs_in, early=early, helper=block.activation)

    def _new(self, block: Block, what: str) -> str:
        number = 1
        while f"{block.name}.{what}{number}" in self.nodes:
            number += 1
        return f"{block.name}.{what}{number}"


def _title(plan: Plan, block: Block) -> str:
    match block.kind:
        case "entry":
            return f"{plan.flow}({', '.join(map(_parameter, plan.parameters))})"
        case "flow":
            return plan.flow
        case "wait":
            return f"wait {block.name}"
        case "memory" | "inbox":
            return block.calls[0]
        case "call":
            return block.activation
    return block.name


def _parameter(parameter: Parameter) -> str:
    if parameter.has_literal_default:
        return f"{parameter.name}={parameter.default!r}"
    return parameter.name if parameter.required else f"{parameter.name}=…"


def _details(block: Block, step: Step | None) -> list[str]:
    """Return a short summary of a block, one line per fact."""
    found = []
    if block.reason:
        found += [
            ", ".join(dict.fromkeys(block.calls)),
            f"{block.reason} {load(block.reason).name}",
        ]
    if step and step.retries:
        pause = f" after {step.retry_delay} s" if step.retry_delay else ""
        found.append(f"{step.retries} {'retry' if step.retries == 1 else 'retries'}{pause}")
    if step:
        found += _asked(step)
    return [line for line in found if line]


def _cost(start_seconds: tuple[int, int] | None) -> str:
    """Return what a region costs: one start, however many calls it makes."""
    taken = f", {shown(start_seconds)}" if start_seconds else ""
    return f"1 start for all its calls{taken}"


def _asked(step: Step) -> list[str]:
    asked = step.resources
    parts = [
        f"cpu {asked.cpu}" if asked.cpu else "",
        f"memory {asked.memory}" if asked.memory else "",
    ]
    parts += [f"gpu {asked.gpu}" if asked.gpu else "", "isolated" if step.isolated else ""]
    shown = ", ".join(part for part in parts if part)
    return [shown] if shown else []
