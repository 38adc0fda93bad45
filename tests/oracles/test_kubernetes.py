"""Kubernetes' schemas accept our documents, and its client creates the Jobs of executions.

The API server is a stand-in on loopback. A kubelet runs each Job as a process, with an S3 server as
the store.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kitaru_compiler import compile_flow
from kitaru_targets import build, registry
from kitaru_targets.kubernetes.profile import SETUP
from kitaru_targets.kubernetes.validate import validate_setup

from kitaru.client import KitaruClient
from tests.cli import flows
from tests.cli.conftest import Kitaru
from tests.oracles.ask import ROOT, ask, python
from tests.oracles.clusters import CONTEXT, NAMESPACE, Cluster, running
from tests.oracles.test_flows import CASES
from tests.stores.servers.real import serving
from tests.targets.programs import WIRING, Do, plan
from tests.targets.test_jobs import DAILY, FAULTS, document
from tests.targets.test_kubernetes import POD, compiled, settings
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

TARGET = registry.get("kubernetes")
IMAGE = "registry/flows:1"
# Something durable follows its wait.
PUBLISHING = flows.REVIEW.replace("return text if", "return draft(text) if")


def test_the_schemas_accept_every_document_and_not_each_fault(tmp_path: Path) -> None:
    texts = []
    small = tmp_path / "review.py"
    small.write_text(flows.REVIEW)
    for file in (small, *dict.fromkeys(case.file for case in CASES.values())):
        compilation = compile_flow(file, profile=TARGET.profile)
        for way in ("store", "image", *(["inline"] if file == small else [])):
            image = None if way == "store" else IMAGE
            made = build.write(compilation, TARGET, tmp_path / "out", delivery=way, image=image)
            texts += [made.document.read_text(), (made.directory / SETUP).read_text()]
            assert validate_setup(texts[-1]) == []
            texts.append(roles(made))
    texts.append(compiled(tmp_path, "kubernetes", settings("kubernetes", POD)).document.read_text())
    texts.append(TARGET.emit(plan((Do("a"),)).replace(schedule=DAILY), WIRING).files[SETUP])
    found = ask("kubernetes", [{"text": text} for text in texts])
    assert [one["problems"] for one in found] == [[]] * len(texts)

    good = TARGET.emit(plan((Do("a"),)), WIRING).text
    faulty = {name: document(good, change) for name, (change, _) in FAULTS.items()}
    told = ask("kubernetes", [{"text": text} for text in faulty.values()])
    seen = {name for name, one in zip(faulty, told, strict=True) if one["problems"]}
    assert {name for name in faulty if not name.endswith("*")} <= seen


def roles(made: build.Build) -> str:
    """Return the roles that DEPLOY.md shows."""
    guide = (made.directory / "DEPLOY.md").read_text()
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", guide, re.DOTALL | re.MULTILINE)
    assert text.count("kind: Role") == 3
    return str(text)


@dataclass
class Submissions:
    """A build, and its submissions to a cluster."""

    cluster: Cluster
    made: build.Build

    def submit(self, **options: str) -> Any:
        given = {"topic": "tea", "kitaru_execution": "e-1", "kitaru_store": "s3://bucket/flows"}
        (found,) = ask("kubernetes", [{"submit": [str(self.made.document), given, options]}])
        return found

    def has_ended(self, run: str, **options: str) -> Any:
        (found,) = ask("kubernetes", [{"ended": [run, options]}])
        return found.get("ended", found)


@pytest.fixture
def submissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Submissions]:
    python("kubernetes")
    (tmp_path / "review.py").write_text(flows.REVIEW)
    compilation = compile_flow(tmp_path / "review.py", profile=TARGET.profile)
    made = build.write(compilation, TARGET, tmp_path / "out")
    cluster = Cluster()
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with running(cluster, tmp_path / "config"):
        yield Submissions(cluster, made)


def test_a_job_of_a_name_is_created_once(submissions: Submissions) -> None:
    for _ in range(2):
        assert submissions.submit(once="kitaru-e-1") == {"run": f"{NAMESPACE}/kitaru-e-1"}
    kinds = [kind for kind, _, _ in submissions.cluster.objects]
    assert sorted(kinds) == ["configmaps", "jobs"]
    (job,) = submissions.cluster.jobs().values()
    assert job["metadata"]["labels"]["kitaru.dev/execution"] == "e-1"
    env = job["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "KITARU_INPUT_topic", "value": "tea"} in env
    first, second = (submissions.submit() for _ in range(2))
    assert first != second, "without a name, each submission is a run"
    assert len(submissions.submit(once=f"kitaru-{'e' * 60}")["run"]) == len(NAMESPACE) + 64


def test_a_refusal_says_what_to_do(submissions: Submissions, tmp_path: Path) -> None:
    found = submissions.submit(namespace="other")
    assert found["error"] == "EnvironmentFailure"
    assert found["message"] == (
        'Kubernetes did not start the run: 404 namespaces "other" not found'
    )
    submissions.cluster.denied.add("jobs")
    found = submissions.submit()
    assert 'User "a" cannot create jobs' in found["message"]
    assert "kubectl auth can-i create jobs" in found["help"]
    assert "unknown" in submissions.submit(colour="red")["message"].lower()
    assert submissions.submit(context="nowhere")["help"].startswith("Set KUBECONFIG")
    (tmp_path / "config").unlink()
    assert "no cluster is configured" in submissions.submit()["message"]
    (tmp_path / "config").write_text("- no kubeconfig")
    assert submissions.submit()["error"] == "EnvironmentFailure"


def test_the_end_of_a_run_is_that_of_its_job(submissions: Submissions) -> None:
    run = submissions.submit(once="kitaru-e-1")["run"]
    (job,) = submissions.cluster.jobs().values()
    assert submissions.has_ended(run) is False
    for kind, status, ended in (
        ("FailureTarget", "True", False), ("Suspended", "True", False), ("Failed", "False", False),
        ("Failed", "True", True), ("Complete", "True", True),
    ):  # fmt: skip
        job["status"] = {"conditions": [{"type": kind, "status": status}]}
        assert submissions.has_ended(run) is ended, kind
    gone = f"{NAMESPACE}/kitaru-e-2"
    assert submissions.has_ended(gone, context=CONTEXT) is True
    assert submissions.has_ended(gone) is False, "the current context may be another cluster"
    submissions.cluster.denied.add("jobs")
    assert submissions.has_ended(run)["error"] == "EnvironmentFailure"


class Commands(Kitaru):
    """The command line in the environment of Kubernetes' client."""

    def command(self, arguments: Any) -> list[str]:
        return [str(python("kubernetes")), "-m", "kitaru", *arguments]


@pytest.fixture
def kitaru(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    python("kubernetes")
    roots = [str(ROOT), *(str(ROOT / name) for name in ("compiler", "targets", "templates"))]
    with serving("moto", tmp_path) as server:
        for name, value in {**server.environment, "AWS_DEFAULT_REGION": "us-east-1"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(roots))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        made = Commands(tmp_path)
        made.write("pyproject.toml", '[tool.kitaru]\nstore = "s3://bucket/flows"\n')
        made.write("review.py", PUBLISHING)
        yield made


def test_an_execution_is_a_job_for_each_round(kitaru: Commands, tmp_path: Path) -> None:
    cluster = Cluster(runs=True)
    with running(cluster, tmp_path / "config"):
        kitaru("deploy", "review.py", "--target", "kubernetes")
        words = ["invoke", "review", "-i", "topic=$(KITARU_STORE)", "--json"]
        exec_id = kitaru(*words).document["exec_id"]
        client = KitaruClient("s3://bucket/flows")

        def ended(name: str) -> Any:
            return cluster.jobs()[name]["status"]

        first, second = f"kitaru-{exec_id}", f"kitaru-{exec_id}-2"
        wait_until(lambda: ended(first))
        assert ended(first)["conditions"] == [{"type": "Complete", "status": "True"}], cluster.logs
        assert ended(first)["message"]["status"] == "waiting"
        assert client.executions.get(exec_id).status == "waiting"
        # The same invocation again is the same run.
        kitaru(*words, "--id", exec_id)
        assert [*cluster.jobs()] == [first]

        cluster.denied.add("jobs")
        refused = kitaru("executions", "input", exec_id, "--value", "true", code=3)
        assert "403" in refused.err and "kubectl auth can-i" in refused.err
        cluster.denied.clear()
        # The next Job fails before its process starts, as on a node that is lost.
        cluster.lost.add(second)
        for name in (second, f"kitaru-{exec_id}-3"):
            kitaru("dispatcher", "run", "--once")
            wait_until(lambda name=name: name in cluster.jobs() and ended(name))
        view = client.executions.get(exec_id)
        assert view.status == "completed", cluster.logs
        assert view.result == "draft of draft of brief on $(KITARU_STORE)"
        assert [*cluster.jobs()] == [first, second, f"kitaru-{exec_id}-3"]
