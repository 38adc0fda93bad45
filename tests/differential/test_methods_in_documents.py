"""Checkpoints that are methods run as steps of a document, in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.differential.real import run_dry, run_here

pytestmark = pytest.mark.slow

SOURCE = """
from kitaru import checkpoint, flow

class Tools:
    @staticmethod
    @checkpoint
    def search(q): return [q]

class Agent:
    def __init__(self, name):
        self.name, self.seen = name, []

    @checkpoint(retries=1)
    def ask(self, q):
        return f"{self.name} {q}"

    def twice(self, q):
        self.seen.append(q)
        return self.ask(self.ask(q))

@flow
def main(n: int):
    agent = Agent("a")
    found = Tools.search.map(range(n)).result()
    out = agent.ask(found)
    agent.name = "b"
    futures = [agent.ask.submit(v) for v in range(n)]
    asked = [f.result() for f in futures]
    mapped = agent.ask.map(range(n)).result()
    crossed = [f.result() for f in agent.ask.product([1, 2])]
    return [agent.twice(out), Tools().search(agent.seen), asked, mapped + crossed]
"""


@pytest.mark.parametrize("target", ["kubeflow", "airflow"])
def test_a_document_calls_methods(target: str, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(SOURCE)
    here = run_here(path, "main", {"n": 2}, str, tmp_path)
    dry = run_dry(path, "main", {"n": 2}, str, tmp_path, target)
    assert here.status == dry.status == "completed"
    assert here.result == [
        "b b a [[0], [1]]",
        [["a [[0], [1]]"]],
        ["b 0", "b 1"],
        ["b 0", "b 1", "b 1", "b 2"],
    ]
    assert (dry.result, dry.invocations) == (here.result, here.invocations)
    assert dry.steps > 8
