"""Real flows run alike in Kitaru and in `kfp.local` from the document."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kitaru_compiler import compile_flow
from kitaru_targets import build, registry
from kitaru_targets.upload import upload

from kitaru.client import KitaruClient
from kitaru.stores import open_store
from kitaru.view import ExecutionView
from tests import forks
from tests.field import test_field
from tests.oracles.ask import ROOT, ask
from tests.waiting import attempts


@dataclass(frozen=True)
class Case:
    """A flow, its inputs, and the answers in the order in which it asks."""

    file: Path
    inputs: dict[str, Any] = field(default_factory=dict)
    answers: tuple[Any, ...] = ()


EXAMPLES = ROOT / "examples"
MORE = Path(__file__).with_name("flows")
CASES = {
    "review": Case(EXAMPLES / "review_flow.py", {"topic": "owls"}, (True,)),
    "rejected": Case(EXAMPLES / "review_flow.py", {"topic": "owls"}, (False,)),
    "bug": Case(EXAMPLES / "triage.py"),
    "refund": Case(EXAMPLES / "triage.py", {"ticket": "charged twice"}, (True,)),
    "refused": Case(EXAMPLES / "triage.py", {"ticket": "charged twice"}, (False,)),
    "spam": Case(EXAMPLES / "triage.py", {"ticket": "lottery"}),
    "question": Case(EXAMPLES / "triage.py", {"ticket": "What is it?"}),
    "agent": Case(EXAMPLES / "research_agent.py"),
    "fan out": Case(EXAMPLES / "fan_out.py"),
    "async": Case(EXAMPLES / "async_report.py", {"topics": "owls,tea"}, (True,)),
    "low": Case(MORE / "routes.py", {"n": 1, "opt": ["a"]}),
    "middle": Case(MORE / "routes.py", {"n": 5, "share": 0.25}, (4,)),
    "high": Case(MORE / "routes.py", {"n": 60, "strict": True}),
    "fixed": Case(MORE / "support.py", {"t": "crash always"}),
    "told": Case(MORE / "support.py", {"t": "crash", "vip": True}, ("always",)),
    "untold": Case(MORE / "support.py", {"t": "crash"}, ("no idea",)),
    "paid": Case(MORE / "support.py", {"t": "money"}),
    "approved": Case(MORE / "support.py", {"t": "money", "vip": True}, (True,)),
    "not approved": Case(MORE / "support.py", {"t": "money", "vip": True}, (False,)),
    "lists": Case(MORE / "batch.py"),
    "no lists": Case(MORE / "batch.py", {"text": ""}),
    "torn": Case(MORE / "batch.py", {"text": "torn/win", "ask": True}, (True,)),
    "other": Case(MORE / "support.py", {"t": "hello"}),
}


@dataclass
class Ran:
    """A case on its way through `kfp.local`."""

    case: Case
    built: build.Build
    url: str
    arguments: dict[str, Any]
    left: list[Any]

    def view(self) -> ExecutionView:
        executions = KitaruClient(self.url).executions
        (item,) = executions.list()
        return executions.get(item["exec_id"])

    def answer(self) -> None:
        """Answer the pending wait, so that the next run continues."""
        view = self.view()
        assert view.status == "waiting"
        KitaruClient(self.url).executions.input(view.exec_id, self.left.pop(0), submit=False)
        self.arguments["kitaru_execution"] = view.exec_id


def test_kfp_local_gives_what_a_local_run_gives(tmp_path: Path) -> None:
    started = [start(name, case, tmp_path / name) for name, case in CASES.items()]
    running = started
    for _ in attempts():
        jobs = [
            {
                "path": str(r.built.document),
                "arguments": r.arguments,
                "environment": {"PATH": forks.with_forks(os.environ["PATH"])},
            }
            for r in running
        ]
        answers = ask("kfp", jobs)
        assert answers == [{"problems": [], "ran": "succeeded"}] * len(running)
        running = [r for r in running if r.left]
        if not running:
            break
        for ran in running:
            ran.answer()
    for name, ran in zip(CASES, started, strict=True):
        assert meaning(ran.view()) == meaning(locally(ran.case, tmp_path / name)), name


def start(name: str, case: Case, folder: Path) -> Ran:
    target = registry.get("kubeflow")
    compilation = compile_flow(case.file, profile=target.profile)
    built = build.write(compilation, target, folder / "out")
    store = open_store(f"sqlite:{folder / 'kfp.db'}")
    upload(built, store)
    given = build.parameters.values(built.plan, case.inputs) | {"kitaru_store": store.url}
    store.close()
    return Ran(case, built, store.url, given, list(case.answers))


def locally(case: Case, folder: Path) -> ExecutionView:
    url = f"sqlite:{folder / 'local.db'}"
    inputs = ["--inputs", json.dumps(case.inputs), "--no-input"]
    found = kitaru("run", str(case.file), *inputs, "--store", url)
    for answer in case.answers:
        value = ["--value", json.dumps(answer), "--store", url]
        found = kitaru("executions", "input", found["exec_id"], *value)
    return KitaruClient(url).executions.get(found["exec_id"])


def kitaru(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "kitaru", *arguments, "--json"]
    done = forks.run(command)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def meaning(view: ExecutionView) -> tuple[Any, ...]:
    """Return what has to be the same everywhere: status, result and what was recorded."""
    records = {r.id: (r.kind, r.arguments_digest, r.status) for r in view.invocations}
    return view.status, view.to_dict()["result"], records


def builds(target: str, folder: Path) -> Iterator[tuple[build.Build, dict[str, Any]]]:
    """Yield what is compiled of every case, and of every flow in the style of the field."""
    chosen = registry.get(target)
    programs = [(name, case.file, None, case.inputs) for name, case in CASES.items()]
    for told in {told.file: told for told in test_field.CASES.values()}.values():
        file = test_field.FLOWS / f"{told.file}.py"
        programs.append((told.file, file, told.flow, told.inputs))
    for name, file, flow, inputs in programs:
        compilation = compile_flow(file, flow, profile=chosen.profile)
        yield build.write(compilation, chosen, folder / name, store="gs://bucket/prefix"), inputs


def test_vertex_constructs_a_job_from_every_document(tmp_path: Path) -> None:
    jobs = [
        {"path": str(b.document), "arguments": build.parameters.values(b.plan, inputs)}
        for b, inputs in builds("vertex", tmp_path)
    ]
    for job, answer in zip(jobs, ask("vertex", jobs), strict=True):
        assert answer == {"problems": [], "parameters": job["arguments"]}


@pytest.mark.parametrize("target", ["kubeflow", "vertex"])
def test_kfp_parses_and_loads_every_document(tmp_path: Path, target: str) -> None:
    jobs = [{"path": str(b.document), "arguments": None} for b, _ in builds(target, tmp_path)]
    assert ask("kfp", jobs) == [{"problems": [], "ran": None}] * len(jobs)
