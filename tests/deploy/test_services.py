"""What `invoke` says to a service, heard at the other end: loopback servers, the vendors' SDKs."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from kitaru.errors import EnvironmentFailure
from kitaru.runtime import secrets
from kitaru.runtime.executions.deployments import Deployments
from kitaru.stores import open_store
from kitaru.wire import secrecy

from ..cli import flows
from ..cli.conftest import Kitaru
from ..oracles.ask import ROOT, python
from ..stores.servers.real import serving

ROLE = "arn:aws:iam::123456789012:role/kitaru"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/base@sha256:" + "0" * 64
PROJECT = f"""\
[tool.kitaru.stacks.aws]
target = "sagemaker"
store = "s3://bucket/flows"
submit = {{role = "{ROLE}", image = "{IMAGE}", region = "us-east-1"}}
"""


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """An account at moto's server, which the environment leads to."""
    scratch = tmp_path_factory.mktemp("moto")
    with pytest.MonkeyPatch.context() as patch, serving("moto", scratch) as server:
        for name, value in {**server.environment, "AWS_DEFAULT_REGION": "us-east-1"}.items():
            patch.setenv(name, value)
        yield patch


@dataclass(frozen=True)
class Invoked:
    """Two versions of a flow, and an execution of each, at the account."""

    kitaru: Kitaru
    service: Any
    deployments: Deployments
    started: list[dict[str, Any]]

    def unpacked(self, version: str, folder: Path) -> str:
        """Unpack a version's bundle as a step's container does; return its digest."""
        deployed = self.deployments.get(f"review@{version}")
        data = self.deployments.read(deployed, "bundle.zip")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            archive.extractall(folder)
        return deployed.files["bundle.zip"]

    def step(self, version: str, name: str, exec_id: str, folder: Path) -> tuple[int, str]:
        """Run a step as the service does; return its exit code and its log."""
        bundle = self.unpacked(version, folder)
        command = ["step", "--plan", "kitaru_build/plan.json", "--step", name]
        where = ["--execution", exec_id, "--run", "r", "--store", "s3://bucket/flows"]
        inputs = ["--target", "sagemaker", "--input", "topic=tea"]
        done = subprocess.run(
            [sys.executable, "-m", "kitaru.runtime", *command, *where, *inputs],
            cwd=folder, env={**os.environ, "KITARU_BUNDLE": bundle, "PYTHONPATH": ""},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stderr

    def known(self, name: str) -> None:
        """Make a pipeline: of one that is not there, moto says something else than the service."""
        token = {"ClientRequestToken": "t" * 32}
        self.service.create_pipeline(
            PipelineName=name, PipelineDefinition="{}", RoleArn=ROLE, **token
        )


@pytest.fixture(scope="module")
def invoked(aws: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Invoked:
    service = pytest.importorskip("boto3").client("sagemaker")
    kitaru = Kitaru(tmp_path_factory.mktemp("invoked"))
    kitaru.write("pyproject.toml", PROJECT)
    found = Invoked(kitaru, service, Deployments(open_store("s3://bucket/flows")), [])
    for version, text in ("v1", flows.REVIEW), ("v2", flows.REVIEW.replace("Rejected", "No")):
        found.known(f"review-{version}")
        kitaru.write("review.py", text)
        kitaru("deploy", "review.py", "--stack", "aws")
        invoke = ("invoke", "review", "-i", "topic=tea", "--stack", "aws", "--json")
        found.started.append(kitaru(*invoke).document)
    return found


def test_sagemaker_keeps_a_pipeline_for_each_version(invoked: Invoked) -> None:
    assert [one["deployment"] for one in invoked.started] == ["v1", "v2"]
    for one in invoked.started:
        version = invoked.deployments.get(f"review@{one['deployment']}")
        name = f"review-{one['deployment']}"
        pipeline = invoked.service.describe_pipeline(PipelineName=name)
        document = invoked.deployments.read(version, "pipeline.json").decode()
        assert json.loads(pipeline["PipelineDefinition"]) == json.loads(document)
        assert pipeline["RoleArn"] == ROLE
        given = parameters_of(invoked.service, one["run"])
        assert given["kitaru_execution"] == one["exec_id"]
        assert (given["topic"], given["kitaru_store"]) == ("tea", "s3://bucket/flows")


def parameters_of(service: Any, run: str) -> dict[str, str]:
    listed = service.list_pipeline_parameters_for_execution(PipelineExecutionArn=run)
    return {each["Name"]: each["Value"] for each in listed["PipelineParameters"]}


def test_a_service_that_runs_another_version_runs_nothing(invoked: Invoked, tmp_path: Path) -> None:
    exec_id = invoked.started[1]["exec_id"]
    code, log = invoked.step("v1", "research", exec_id, tmp_path)
    assert code == 3 and "belongs to another compilation" in log
    error = invoked.kitaru("executions", "get", exec_id, "--stack", "aws", code=2).err
    assert "has not begun yet" in error


def test_the_rest_is_handed_over_with_the_code_it_began_with(
    invoked: Invoked, tmp_path: Path
) -> None:
    exec_id = invoked.started[0]["exec_id"]
    for name in ("research", "draft"):
        assert invoked.step("v1", name, exec_id, tmp_path)[0] == 0
    execution = ("executions", "input", exec_id, "--value", "false", "--stack", "aws")
    answered = invoked.kitaru(*execution)
    assert f"executions resume {exec_id} --submit --stack aws" in answered.err
    invoked.known(f"review-{exec_id}")
    resume = ("executions", "resume", exec_id, "--submit", "--stack", "aws", "--json")
    run = invoked.kitaru(*resume).document["run"]
    rest = invoked.service.describe_pipeline(PipelineName=f"review-{exec_id}")
    assert IMAGE in json.dumps(parameters_of(invoked.service, run))
    assert "research" not in rest["PipelineDefinition"], "what is recorded is not in it"
    assert parameters_of(invoked.service, run)["kitaru_execution"] == exec_id


def test_aws_secrets_manager(aws: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch) -> None:
    boto3 = pytest.importorskip("boto3")
    for module, name in ((secrecy, "_known"), (secrets, "_values"), (secrets, "_plan_references")):
        monkeypatch.setattr(module, name, {})
    made = boto3.client("secretsmanager").create_secret(Name="prod/key", SecretString="a value")
    for place in ("prod/key", made["ARN"]):
        secrets.use_plan_references({"SERVICE_KEY": f"aws:{place}"})
        assert secrets.find("SERVICE_KEY") == "a value"
    secrets.use_plan_references({"SERVICE_KEY": "aws:absent"})
    with pytest.raises(EnvironmentFailure, match="ResourceNotFoundException"):
        secrets.find("SERVICE_KEY")


@dataclass(frozen=True)
class Heard:
    """One request to a scripted service."""

    method: str
    path: str
    body: Any


@contextmanager
def scripted(answer: Callable[[Heard], Any]) -> Iterator[tuple[str, list[Heard]]]:
    """Serve JSON over HTTP; `answer` gives the document for a request, None for 404."""
    heard: list[Heard] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            heard.append(Heard(self.command, self.path, json.loads(text) if text else None))
            found = answer(heard[-1])
            data = json.dumps(found or {"error": "not here", "code": 5}).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _answer

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", heard
        finally:
            server.shutdown()
            thread.join()


SUBMIT = """
import json, sys
from kitaru_targets.kubeflow.submit import submit
document, parameters, options = json.loads(sys.argv[1])
started = submit(document, parameters, options)
print(json.dumps([started.run_id, started.url]), file=sys.stderr)
"""


def kubeflow(request: Heard) -> Any:
    """Answer as the API server of Kubeflow Pipelines does for one user."""
    path = request.path.partition("?")[0].removeprefix("/apis/v2beta1/")
    experiment = {"experiment_id": "e-1", "display_name": "agents"}
    match request.method, path:
        case "GET", "healthz":
            return {"multi_user": False}
        case "GET", "experiments":
            return {"experiments": [experiment]}
        case "POST", "runs":
            return {**request.body, "run_id": "r-1"}
    return None


def test_kubeflow_is_given_the_document_and_its_inputs(tmp_path: Path) -> None:
    interpreter = python("kfp")
    kitaru = Kitaru(tmp_path)
    kitaru.write("pyproject.toml", "[tool.kitaru]\n")
    kitaru.write("review.py", flows.REVIEW)
    kitaru("compile", "review.py", "-t", "kubeflow", "--store", "s3://bucket/flows")
    document = tmp_path / "build" / "review" / "kubeflow" / "pipeline.yaml"
    parameters = {"topic": "tea", "kitaru_execution": "x", "kitaru_store": "s3://b"}
    with scripted(kubeflow) as (url, heard):
        options = {"host": url, "experiment_name": "agents", "run_name": "tea"}
        asked = json.dumps([str(document), parameters, options])
        roots = [str(ROOT), *(str(ROOT / name) for name in ("compiler", "targets", "templates"))]
        environment = {"PYTHONPATH": ":".join(roots), "HOME": str(tmp_path)}
        done = subprocess.run(
            [str(interpreter), "-W", "ignore", "-c", SUBMIT, asked],
            capture_output=True, text=True, env=environment,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr.splitlines()[-1])[0] == "r-1"
    (run,) = [one.body for one in heard if (one.method, one.path) == ("POST", "/apis/v2beta1/runs")]
    assert (run["experiment_id"], run["display_name"]) == ("e-1", "tea")
    assert run["runtime_config"]["parameters"] == parameters
    sent, own = run["pipeline_spec"], yaml.safe_load(document.read_text())
    assert sent == uncached(own)


def uncached(spec: Any) -> Any:
    """Return a document as a run that caches nothing sends it."""
    return json.loads(json.dumps(spec).replace('"enableCache": true', '"enableCache": false'))
