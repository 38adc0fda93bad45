"""Model calls with shapes and tools give the same here and as the emitted document."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.differential.real import run_dry, run_here

FLOW = """
import kitaru
from kitaru import checkpoint, flow
from pydantic import BaseModel

TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]

class Plan(BaseModel):
    title: str
    rounds: int

@checkpoint
def act(plan: Plan) -> str:
    return kitaru.llm(f"Act on {plan.title}", capture="off")

@flow(capture="metadata")
def main(topic: str):
    plan = kitaru.llm(f"Plan {topic}", schema=Plan, name="plan")
    done = act(plan)
    reply = kitaru.llm([{"role": "user", "content": done}], tools=TOOLS)
    return plan, done, reply, [call.name for call in reply.tool_calls]
"""


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KITARU_MODELS", "KITARU_DEFAULT_MODEL", "KITARU_CAPTURE"):
        monkeypatch.delenv(name, raising=False)


def test_a_dry_run_is_the_run(tmp_path: Path) -> None:
    path = tmp_path / "asks.py"
    path.write_text(FLOW)
    inputs = {"topic": "tea"}
    local = run_here(path, "main", inputs, lambda _: None, tmp_path)
    assert local.status == "completed" and "offline model" in local.result[0]["title"]
    dry = run_dry(path, "main", inputs, lambda _: None, tmp_path, "kubeflow")
    assert dry == local and dry.steps == 3
