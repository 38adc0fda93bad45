"""Every example runs, compiles, and its compiled document gives the same result."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, Installed, tracked

# One of each family that runs without a server of its own.
TARGETS = ("vertex", "sagemaker", "azureml")


@dataclass(frozen=True)
class Case:
    """An example with inputs and answers, and how its result starts."""

    file: str
    result: str
    inputs: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return "-".join([self.file, *self.inputs, *self.answers]).replace(" ", "_")


CASES = [
    Case("review_flow.py", "[kitaru offline model", ("topic=x",), ("approve_draft=true",)),
    Case("review_flow.py", "Rejected", ("topic=x",), ("approve_draft=false",)),
    Case("triage.py", "sent: Bug filed: The app shows an error"),
    Case("triage.py", "dropped", ("ticket=You won the lottery",)),
    Case("triage.py", "sent: [kitaru offline model", ("ticket=How do I log in?",)),
    Case("triage.py", "sent: Refund proposed", ("ticket=refund me",), ("approve_refund=true",)),
    Case("triage.py", "refund refused", ("ticket=refund me",), ("approve_refund=false",)),
    Case("research_agent.py", "durable execution: After a crash, a program"),
    Case(
        "async_report.py",
        "Introduction: facts about the history of owls; Part 1: facts",
        answers=("approve=true",),
    ),
    Case("async_report.py", "rejected", ("topics=tea",), ("approve=false",)),
    Case("fan_out.py", "10 words: One thing happened; Two more followed; Then it rained"),
]


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stdout + done.stderr
    value: dict[str, Any] = json.loads(done.stdout)
    return value


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "examples", tmp_path / "project")
    return tmp_path / "project"


def run_here(installed: Installed, project: Path, case: Case) -> dict[str, Any]:
    inputs = [part for given in case.inputs for part in ("--input", given)]
    state = document(
        installed.kitaru("run", case.file, *inputs, "--no-input", "--json", cwd=project)
    )
    for answer in case.answers:
        assert state["status"] == "waiting"
        wait, _, value = answer.partition("=")
        answered = ("input", state["exec_id"], "--wait", wait, "--value", value)
        state = document(installed.kitaru("executions", *answered, "--json", cwd=project))
    return state


def dry_run(installed: Installed, project: Path, case: Case, target: str) -> dict[str, Any]:
    inputs = [part for given in case.inputs for part in ("--input", given)]
    answers = [part for given in case.answers for part in ("--answer", given)]
    options = [*inputs, *answers, "--target", target, "--store", "sqlite:dry-run.db", "--json"]
    return document(installed.kitaru("dry-run", case.file, *options, cwd=project))


def test_every_example_with_a_flow_is_a_case() -> None:
    # Those of `examples/agents` need harnesses; tests/adapters runs them.
    files = [p for p in tracked("examples/*.py") if p.parent.name == "examples"]
    flows = {p.name for p in files if "\n@flow" in p.read_text()}
    assert flows == {case.file for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.label)
def test_an_example_gives_its_result_here_and_in_its_document(
    installed: Installed, project: Path, case: Case
) -> None:
    here = run_here(installed, project, case)
    assert here["status"] == "completed", here
    assert here["result"].startswith(case.result)
    there = dry_run(installed, project, case, "vertex")
    assert (there["status"], there["result"]) == ("completed", here["result"])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("file", sorted({case.file for case in CASES}))
def test_an_example_compiles(installed: Installed, project: Path, file: str, target: str) -> None:
    done = installed.kitaru("compile", file, "--target", target, "--json", cwd=project)
    compiled = document(done)
    assert compiled["target"] == target
    assert (project / compiled["directory"]).is_dir()
    assert [d for d in compiled["diagnostics"] if d["severity"] == "error"] == []
