"""Runs on Argo's API are started, continued and ended: a server on loopback keeps the workflows.

The server takes the place of Argo and its controller. It accepts what Argo's API accepts, and runs
each workflow by the rules of the dry run, each pod as a real process. A suspended node stays until
a request resumes it by its id.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from kitaru_compiler import compile_flow
from kitaru_targets import build, registry
from kitaru_targets.argo import submit as service
from kitaru_targets.argo.dry_run import Call, interpret, of_container, written
from kitaru_targets.common import parameters, read
from kitaru_targets.upload import carry, upload

from kitaru.client import KitaruClient
from kitaru.errors import EnvironmentFailure, UsageError
from kitaru.stores import open_store
from tests import forks
from tests.waiting import wait_until

from .test_services import Heard, Refused, scripted

TARGET = registry.get("argo")
FLOW = """
import kitaru
from kitaru import checkpoint, flow

@checkpoint
def draft(topic: str) -> str:
    return f"On {topic}."

@checkpoint
def publish(text: str) -> str:
    return text.upper()

@flow
def review(topic: str) -> str:
    text = draft(topic)
    while not kitaru.wait(name="good", schema=bool):
        text = draft(text)
    if not kitaru.wait(name="publish", schema=bool):
        return "rejected"
    return publish(text)
"""


@dataclass
class Workflow:
    """A workflow in the cluster: its object, and the nodes that wait."""

    body: dict[str, Any]
    programs: Mapping[str, str]
    nodes: dict[str, Any] = field(default_factory=dict)
    resumed: dict[str, threading.Event] = field(default_factory=dict)
    phase: str = "Running"

    def shown(self) -> dict[str, Any]:
        status = {"phase": self.phase, "nodes": {n: dict(one) for n, one in self.nodes.items()}}
        return {**self.body, "status": status}

    def run(self) -> None:
        spec = self.body["spec"]
        declared = spec["arguments"]["parameters"]
        given = {one["name"]: one["value"] for one in declared if "value" in one}
        metadata = self.body["metadata"]
        try:
            interpret(
                {"spec": spec}, given, metadata["uid"], self.pod, self.suspend,
                name=metadata["name"], namespace=metadata["namespace"],
            )  # fmt: skip
        finally:
            if self.phase == "Running":
                self.phase = "Succeeded"

    def pod(self, call: Call) -> Mapping[str, str] | None:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            command = of_container(call, folder, self.programs)
            here = {k: v for k, v in os.environ.items() if not k.startswith(("KITARU", "PYTHON"))}
            here["PATH"] = forks.with_forks(f"{Path(sys.executable).parent}:{os.environ['PATH']}")
            done = subprocess.run(
                command, cwd=folder, env={**here, "PIP_NO_INDEX": "1", **call.environment},
                capture_output=True, text=True, check=False, timeout=300,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            return written(call, folder)

    def suspend(self) -> bool:
        node = f"{self.body['metadata']['name']}-{len(self.nodes)}"
        self.resumed[node] = threading.Event()
        self.nodes[node] = {"id": node, "type": "Suspend", "phase": "Running"}
        assert self.resumed[node].wait(300)
        self.nodes[node]["phase"] = "Succeeded"
        return self.phase == "Running"


@dataclass
class Cluster:
    """Argo's server and its controller, for one namespace."""

    programs: Mapping[str, str]
    workflows: dict[str, Workflow] = field(default_factory=dict)
    threads: list[threading.Thread] = field(default_factory=list)

    def answer(self, request: Heard) -> Any:
        path, _, query = request.path.partition("?")
        rest = path.removeprefix("/api/v1/workflows/agents").strip("/").split("/")
        if not path.startswith("/api/v1/workflows/agents"):
            return Refused(403, {"code": 7, "message": "not in your namespace"})
        match request.method, rest:
            case "POST", [""]:
                return self.create(request.body["workflow"])
            case "GET", [""]:
                label, _, value = parse_qs(query)["listOptions.labelSelector"][0].partition("=")
                found = [w.shown() for w in self.workflows.values()]
                return {"items": [w for w in found if w["metadata"]["labels"].get(label) == value]}
            case "GET", [name]:
                return self.workflows[name].shown() if name in self.workflows else None
            case "PUT", [name, "resume"]:
                _, _, node = request.body["nodeFieldSelector"].partition("id=")
                self.workflows[name].resumed[node].set()
                return self.workflows[name].shown()
            case "PUT", [name, "terminate"]:
                self.end(self.workflows[name])
                return self.workflows[name].shown()
        return None

    def create(self, body: dict[str, Any]) -> Any:
        metadata = dict(body["metadata"])
        metadata.setdefault("name", f"{metadata.get('generateName')}{len(self.workflows)}")
        if metadata["name"] in self.workflows:
            return Refused(409, {"code": 6, "message": "already exists"})
        metadata |= {"namespace": "agents", "uid": f"uid-{len(self.workflows)}"}
        made = Workflow({**body, "metadata": metadata}, self.programs)
        self.workflows[metadata["name"]] = made
        thread = threading.Thread(target=made.run)
        thread.start()
        self.threads.append(thread)
        return made.shown()

    def end(self, workflow: Workflow) -> None:
        if workflow.phase == "Running":
            workflow.phase = "Failed"
        for event in workflow.resumed.values():
            event.set()


@dataclass
class Started:
    """A flow that runs in the cluster."""

    client: KitaruClient
    cluster: Cluster
    options: dict[str, str]
    run_id: str
    exec_id: str


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Started]:
    (tmp_path / "review.py").write_text(FLOW)
    made = build.write(
        compile_flow(tmp_path / "review.py", "review", profile=TARGET.profile),
        TARGET,
        tmp_path / "out",
    )
    _, program = read.parse_all(made.document.read_text())
    store = open_store(f"sqlite:{tmp_path / 'store.db'}")
    given = {**carry(made, {"topic": "{{tea}}"}, store), parameters.STORE: store.url}
    upload(made, store)
    with serving(program["data"]) as (cluster, options):
        monkeypatch.setenv("KITARU_ARGO_URL", options["url"])
        monkeypatch.setenv("KITARU_ARGO_TOKEN", "t")
        found = TARGET.submit(str(made.document), given, {**options, "once": "review-1"})
        again = TARGET.submit(str(made.document), given, {**options, "once": "review-1"})
        assert found == again and found.run_id == "agents/review-1/uid-0"
        assert found.url == f"{options['url']}/workflows/agents/review-1"
        assert "kubectl apply -n agents" in found.notes[0], "the config map must be there"
        client = KitaruClient(store.url)
        wait_until(lambda: client.executions.list() and waits(client))
        # The step has ended: a cancellation while it ends would let its workflow succeed.
        wait_until(lambda: any(one.nodes for one in cluster.workflows.values()))
        (view,) = client.executions.list()
        yield Started(client, cluster, options, found.run_id, view.exec_id)
    store.close()


@contextmanager
def serving(programs: Mapping[str, str]) -> Iterator[tuple[Cluster, dict[str, str]]]:
    cluster = Cluster(programs)
    with scripted(cluster.answer) as (url, _):
        try:
            yield cluster, {"url": url, "token": "t", "namespace": "agents"}
        finally:
            for workflow in cluster.workflows.values():
                cluster.end(workflow)
            for thread in cluster.threads:
                thread.join()


def waits(client: KitaruClient) -> bool:
    return client.executions.list()[0].status == "waiting"


def answer(started: Started, name: str, value: Any) -> None:
    def asked() -> bool:
        found = started.client.executions.get(started.exec_id)
        return found.status == "waiting" and name in [wait.name for wait in found.waits]

    wait_until(asked)
    started.client.executions.input(started.exec_id, value, wait=name)


def test_answers_continue_the_same_run_to_its_end(started: Started) -> None:
    assert not TARGET.has_ended(started.run_id, started.options)  # type: ignore[misc]
    answer(started, "good", False)
    answer(started, "good_2", True)
    answer(started, "publish", True)
    executions = started.client.executions
    wait_until(lambda: executions.get(started.exec_id).status == "completed")
    assert executions.get(started.exec_id).result == "ON ON {{TEA}}.."
    assert len(started.cluster.workflows) == 1, "one run, from the start to the end"
    wait_until(lambda: TARGET.has_ended(started.run_id, started.options))  # type: ignore[misc]


def test_a_cancelled_execution_terminates_its_run(started: Started) -> None:
    started.client.executions.cancel(started.exec_id)
    (workflow,) = started.cluster.workflows.values()
    assert workflow.phase == "Failed"
    record = started.client.executions.get(started.exec_id)
    assert record.status == "cancelled"
    assert TARGET.has_ended("agents/review-1/another-uid", started.options)  # type: ignore[misc]


def test_a_server_that_refuses_is_named() -> None:
    with serving({}) as (_, options):
        with pytest.raises(EnvironmentFailure, match="403 not in your namespace"):
            service.has_ended("other/name/uid", options)
        assert service.has_ended("agents/nothing/uid", options)
    with pytest.raises(EnvironmentFailure, match="did not do it"):
        service.has_ended("agents/nothing/uid", options)
    with pytest.raises(UsageError, match="needs the option 'url'"):
        service.has_ended("agents/nothing/uid", {})
    with pytest.raises(UsageError, match="'colour'"):
        service.submit("x", {}, {"url": "http://a", "colour": "red"})
