"""Steps in compiled flows: their ids are the same wherever the flow is cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.differential.real import run_dry, run_here

FLOW = """
from kitaru import checkpoint, flow, harness

@checkpoint
def between(x: int) -> int:
    return x + 1

def agent(n: int) -> int:
    with harness.scope("agent"):
        first = harness.blocking_step("model", lambda: n, kind="llm")
        with harness.scope("tool", key="call_0"):
            return first + harness.blocking_step("tool", lambda: 10 * n, key="call_1", kind="tool")

@flow
def main(n: int) -> int:
    first = agent(n)
    second = agent(between(first))
    return agent(between(second))
"""


@pytest.mark.parametrize("target", ["kubeflow", "airflow"])
def test_scopes_are_numbered_across_cuts(target: str, tmp_path: Path) -> None:
    path = tmp_path / "twice.py"
    path.write_text(FLOW)
    local = run_here(path, "main", {"n": 1}, lambda _: None, tmp_path)
    assert local.status == "completed" and local.result == 1463
    assert run_dry(path, "main", {"n": 1}, lambda _: None, tmp_path, target) == local
