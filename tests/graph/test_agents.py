"""How graph, plan and explanation show the agents of a flow."""

from __future__ import annotations

import json
from pathlib import Path

from kitaru_compiler import compile_flow
from kitaru_targets import registry
from kitaru_targets.graph import graph_of

from kitaru.ops.compile import checkpoints, request
from kitaru.ops.explain import explain
from kitaru.wire.plan import Plan, PlannedAgent
from tests.compiler import fixture


def compiled(tmp_path: Path) -> tuple[Path, Plan]:
    page = fixture.read(fixture.FOLDER / "agents.md")
    path = tmp_path / "flow.py"
    path.write_text(page.files["flow.py"])
    return path, compile_flow(path, profile=registry.get("vertex").profile).plan


def test_the_plan_contains_the_parts_of_each_agent(tmp_path: Path) -> None:
    _, plan = compiled(tmp_path)
    found = {agent.block: agent for agent in plan.agents}
    assert found["clerk"] == PlannedAgent(
        "clerk", "clerk", "LangChain", ("openai:gpt-5",), ("look", "render"), (), True
    )
    assert found["bank"].tools == ("look", "pay")
    assert not found["bank"].durable
    assert [agent.name for agent in plan.agents] == ["bank", "clerk", "bank", "graph", "graph"]
    assert Plan.from_json(plan.to_json()) == plan
    assert plan.step("clerk").resources.gpu == 1
    assert plan.step("clerk").may_wait
    assert checkpoints(plan) == ["render", "publish"]


def test_a_plan_without_agents_is_as_before(tmp_path: Path) -> None:
    path = tmp_path / "flow.py"
    path.write_text("from kitaru import flow\n@flow\ndef main(): return 1\n")
    assert "agents" not in json.loads(compile_flow(path).plan.to_json())


def test_the_graph_has_a_named_node_for_each_agent(tmp_path: Path) -> None:
    path, _ = compiled(tmp_path)
    made = compile_flow(path)
    graph = graph_of(made.plan, made.steps_py, made.sources)
    clerk, bank = graph.node("clerk"), graph.node("bank")
    assert (clerk.kind, clerk.title) == ("region", "agent clerk")
    assert clerk.details == (
        "model openai:gpt-5", "tools look, render", "LangChain", "gpu 1",
    )  # fmt: skip
    assert bank.details == ("model openai:gpt-5", "tools look, pay", "Pydantic AI, not durable")
    loop = graph.node("graph_2")
    assert (loop.title, loop.reason) == ("graph_2", "KIT310")
    assert "agent graph" in loop.details


def test_the_explanation_tells_what_is_recorded(tmp_path: Path) -> None:
    path, _ = compiled(tmp_path)
    found = {part.name: part for part in explain(request(str(path), "vertex", tmp_path)).parts}
    assert "tools look, render" in found["clerk"].reason
    assert "each of its model requests and tool calls is a record" in found["clerk"].reason
    assert "no adapter records its calls" in found["bank"].reason
