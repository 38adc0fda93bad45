"""The checkpoint graph as a networkx graph: control and data edges, costs, GraphML and JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path

import networkx as nx
import pytest
from kitaru_targets.graph.network import TimedCall, critical_path, timed

from kitaru.ops.flow_ref import locate
from kitaru.ops.graph import Drawn, graph
from tests.cli.conftest import Kitaru, kitaru

__all__ = ["kitaru"]

FLOW = """\
import kitaru
from kitaru import checkpoint, flow


@checkpoint(retries=2, retry_delay=3, cpu="2", memory="4Gi", runtime="isolated")
def research(topic: str) -> str:
    return topic


@checkpoint
def draft(a: str, b: str = "") -> str:
    return a


def polish(x: str) -> str:
    y = research(x)
    return draft(y)


@flow
def main(topic: str, n: int) -> str:
    notes = research(topic)
    other = research(topic, id="two")
    if n > 2:
        notes = draft(notes)
    text = draft(notes, other)
    text = polish(text)
    ok = kitaru.wait(name="ok", schema=bool)
    return text if ok else "no"
"""


@pytest.fixture
def drawn(tmp_path: Path) -> Drawn:
    path = tmp_path / "flow.py"
    path.write_text(FLOW, encoding="utf-8")
    return graph(locate(str(path)))


def data_edges(network: nx.DiGraph) -> dict[tuple[str, str], str]:
    return {(a, b): found["data"] for a, b, found in network.edges(data=True) if found["data"]}


def test_data_edges_lead_from_what_sets_a_variable_to_what_reads_it(drawn: Drawn) -> None:
    assert data_edges(drawn.network()) == {
        ("start", "research"): "topic",
        ("start", "research_2"): "n, topic",
        ("research", "draft"): "notes",
        # Either of them may have set it.
        ("research", "draft_2"): "notes",
        ("draft", "draft_2"): "notes",
        ("research_2", "draft_2"): "other",
        # Through the helper, by the names that its frame has.
        ("draft_2", "research_3"): "polish.x",
        ("research_3", "draft_3"): "polish.y",
        ("draft_3", "back"): "polish.return",
        ("back", "ok"): "text",
    }


def test_control_edges_are_those_of_the_drawing(drawn: Drawn) -> None:
    network = drawn.network()
    control = {(a, b) for a, b, found in network.edges(data=True) if found["control"]}
    assert control == {(edge.source, edge.target) for edge in drawn.graph.edges}
    assert network.edges["research", "research_2"]["cut"]
    assert list(network) == [node.id for node in drawn.graph.nodes]


def test_nodes_have_resources_retries_and_places(drawn: Drawn) -> None:
    found = drawn.network().nodes["research"]
    names = ("kind", "line", "step", "containers", "retries", "retry_delay", "cpu", "memory")
    assert [found[name] for name in names] == ["step", 22, "research", 1, 2, 3.0, "2", "4Gi"]
    assert found["isolated"] and found["critical"]


def test_the_critical_path_starts_the_most_containers(drawn: Drawn) -> None:
    network = drawn.network()
    path = critical_path(network)
    assert "draft" in path, "the way through the branch has one step more"
    assert nx.is_path(network, path)
    assert sum(network.nodes[name]["containers"] for name in path) == 6


def call(name: str, line: int, start: float, end: float) -> TimedCall:
    return TimedCall("flow.py", line, name, start, end)


def test_durations_of_calls_decide_the_critical_path(drawn: Drawn) -> None:
    calls = [
        call("research", 22, 0, 2), call("research", 23, 2, 3), call("draft", 26, 3, 7),
        call("research", 16, 7, 8), call("draft", 17, 8, 8.5),
    ]  # fmt: skip
    graph = timed(drawn.graph, drawn.network(), calls)
    assert graph.node("research").details[-1] == "2.00 s, 24% of the path"
    assert graph.node("draft_2").details[-1] == "4.00 s, 47% of the path"
    assert graph.node("draft_3").critical
    # The branch that was not taken has no duration.
    assert graph.node("draft").details == drawn.graph.node("draft").details
    marked = [edge.source for edge in graph.edges if edge.critical]
    assert "research" in marked and nx.is_path(drawn.network(), [*marked, "draft_3"])


def test_calls_that_overlap_count_once(tmp_path: Path) -> None:
    path = tmp_path / "flow.py"
    fan = "futures = research.map([topic, topic])\n    rest = [one.result() for one in futures]"
    path.write_text(FLOW.replace("notes = research(topic)", f"{fan}\n    notes = rest[0]"), "utf-8")
    drawn = graph(locate(str(path)))
    calls = [call("research", 22, 0, 2), call("research", 23, 1, 3), call("draft", 28, 3, 4)]
    found = timed(drawn.graph, drawn.network(), calls)
    (fan_out,) = [node for node in found.nodes if node.title.endswith("calls")]
    assert fan_out.details[-1].startswith("3.00 s, ")


def test_the_command_marks_the_path_of_an_execution(kitaru: Kitaru) -> None:
    kitaru.write("flow.py", FLOW)
    kitaru.write("other.py", FLOW.replace("main", "another"))
    kitaru("run", "flow.py", "--input", "topic=a", "--input", "n=1", "--no-input")
    shown = kitaru("graph", "flow.py", "--execution", "latest").out
    assert " s, " in shown and "class n1,n2" in shown
    written = kitaru("graph", "flow.py", "--execution", "latest", "--format", "json").out
    nodes = json.loads(written)["nodes"]
    timed = [node["id"] for node in nodes if node["seconds"] > 0]
    assert timed and {node["id"] for node in nodes if node["critical"]} <= set(timed)
    refused = kitaru("graph", "other.py", "--execution", "latest", code=2)
    assert "has no call of another's source" in refused.err


def test_graphml_and_json_are_read_back_by_networkx(drawn: Drawn) -> None:
    network = drawn.network()
    from_xml = nx.read_graphml(io.BytesIO(drawn.text("graphml").encode()))
    assert dict(from_xml.nodes(data=True)) == dict(network.nodes(data=True))
    assert {(a, b): d for a, b, d in from_xml.edges(data=True)} == {
        (a, b): d for a, b, d in network.edges(data=True)
    }
    from_json = nx.node_link_graph(json.loads(drawn.text("json")), edges="edges")
    assert nx.utils.graphs_equal(from_json, network)


def test_every_block_has_data_only_from_what_runs_before(drawn: Drawn) -> None:
    network = drawn.network()
    assert nx.is_directed_acyclic_graph(network)
    control = nx.DiGraph((a, b) for a, b, d in network.edges(data=True) if d["control"])
    for source, target in data_edges(network):
        assert nx.has_path(control, source, target)


def test_the_command_writes_both(kitaru: Kitaru) -> None:
    kitaru.write("flow.py", FLOW)
    assert kitaru("graph", "flow.py", "--format", "graphml").out.startswith("<graphml")
    document = kitaru("graph", "flow.py", "--format", "json").document
    assert document["directed"] and len(document["nodes"]) > 5
    kitaru("graph", "flow.py", "-o", "g.graphml")
    kitaru("graph", "flow.py", "-o", "g.json")
    assert nx.read_graphml(kitaru.folder / "g.graphml").number_of_nodes() == len(document["nodes"])
    assert json.loads((kitaru.folder / "g.json").read_text("utf-8")) == document
