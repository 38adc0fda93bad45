"""What `invoke` says to a service, heard at the other end: loopback servers, the vendors' SDKs."""

from __future__ import annotations

import io
import json
import os
import re
import socket
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
from kitaru.wire import redaction

from ..cli import flows
from ..cli.conftest import Kitaru
from ..oracles.ask import ROOT, python
from ..stores.servers.real import serving

ROLE = "arn:aws:iam::123456789012:role/kitaru"
ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/review"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/base@sha256:" + "0" * 64
PROJECT = f"""\
[tool.kitaru.stacks.aws]
target = "sagemaker"
store = "s3://bucket/flows"
submit = {{role = "{ROLE}", image = "{IMAGE}", region = "us-east-1"}}
"""

# Something durable follows its wait.
PUBLISHING = flows.REVIEW.replace("return text if", "return draft(text) if")


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
        """Create a pipeline: moto's response for a missing one is not the service's."""
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
    for version, text in ("v1", PUBLISHING), ("v2", flows.REVIEW.replace("Rejected", "No")):
        found.known(f"review-{version}")
        kitaru.write("review.py", text)
        kitaru("deploy", "review.py", "--stack", "aws", "--tag", "default")
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
    assert code == 3 and "compiled from a different version" in log
    shown = invoked.kitaru("executions", "get", exec_id, "--stack", "aws", "--json").document
    assert (shown["status"], shown["inputs"]) == ("starting", {"topic": "tea"})


def test_the_rest_is_handed_over_with_the_code_it_began_with(
    invoked: Invoked, tmp_path: Path
) -> None:
    exec_id = waiting(invoked, 0, tmp_path)
    at = ("--stack", "aws", "--json")
    answer = ("executions", "input", exec_id, "--value", "true", *at)
    left = invoked.kitaru(*answer, "--no-submit").document
    assert (left["status"], left["submission"], left["waits"]) == ("answered", None, [])
    invoked.known(f"review-{exec_id}")
    submitted = invoked.kitaru(*answer).document
    assert submitted["status"] == "resuming"
    run = submitted["submission"]["run"]
    rest = invoked.service.describe_pipeline(PipelineName=f"review-{exec_id}")
    assert IMAGE in json.dumps(parameters_of(invoked.service, run))
    assert "research" not in rest["PipelineDefinition"], "what is recorded is not in it"
    assert parameters_of(invoked.service, run)["kitaru_execution"] == exec_id
    # The same answer again, and a resume, start nothing.
    assert invoked.kitaru(*answer).document["submission"]["run"] == run
    refused = invoked.kitaru("executions", "resume", exec_id, *at, code=2).error
    assert run in refused["message"] and f"resume {exec_id} --again" in refused["help"]
    runs = invoked.service.list_pipeline_executions(PipelineName=f"review-{exec_id}")
    assert len(runs["PipelineExecutionSummaries"]) == 1
    again = invoked.kitaru("executions", "resume", exec_id, "--again", *at).document
    assert again["submission"]["run"] != run


def sagemaker(lost: list[int], runs: dict[str, str]) -> Callable[[Heard], Any]:
    """Answer as SageMaker does: one run for each token; `lost` counts answers still to be lost."""

    def answer(request: Heard) -> Any:
        if request.action != "StartPipelineExecution":
            return {"PipelineArn": ARN}
        token = request.body["ClientRequestToken"]
        runs.setdefault(token, f"{ARN}/execution/{len(runs)}")
        if lost:
            lost.pop()
            return LOST
        return {"PipelineExecutionArn": runs[token]}

    return answer


def test_a_submission_that_is_accepted_and_not_confirmed_starts_one_run(
    invoked: Invoked, tmp_path: Path
) -> None:
    lost, runs = [1], dict[str, str]()
    at = ("--stack", "aws", "--json")
    with scripted(sagemaker(lost, runs)) as (url, _):
        service = {"AWS_ENDPOINT_URL_SAGEMAKER": url, "AWS_MAX_ATTEMPTS": "1"}
        invoke = ("invoke", "review@v1", "-i", "topic=tea", *at)
        failed = invoked.kitaru(*invoke, code=3, **service).error
        given = re.search(r"--id (\S+)", failed["help"])
        assert given is not None, failed
        exec_id = given.group(1)
        started = invoked.kitaru(*invoke, "--id", exec_id, **service).document
        assert [started["run"]] == [*runs.values()]
        other = (*invoke[:2], "-i", "topic=coffee", *at, "--id", exec_id)
        assert "other inputs" in invoked.kitaru(*other, code=2, **service).error["message"]

        invoked.started.append(started)
        assert waiting(invoked, -1, tmp_path / "one") == exec_id
        lost.append(1)
        answer = ("executions", "input", exec_id, "--value", "true", *at)
        failed = invoked.kitaru(*answer, code=3, **service).error
        assert failed["message"].startswith("The answer is recorded, but not submitted:")
        again = invoked.kitaru("executions", "resume", exec_id, *at, **service).document
        assert len(runs) == 2
        assert again["submission"]["run"] == [*runs.values()][1]


def test_a_run_that_began_unconfirmed_is_not_started_again(
    invoked: Invoked, tmp_path: Path
) -> None:
    lost, runs = list[int](), dict[str, str]()
    at = ("--stack", "aws", "--json")
    with scripted(sagemaker(lost, runs)) as (url, _):
        service = {"AWS_ENDPOINT_URL_SAGEMAKER": url, "AWS_MAX_ATTEMPTS": "1"}
        invoke = ("invoke", "review@v1", "-i", "topic=tea", *at)
        invoked.started.append(invoked.kitaru(*invoke, **service).document)
        exec_id = waiting(invoked, -1, tmp_path / "one")
        lost.append(1)
        answer = ("executions", "input", exec_id, "--value", "true", *at)
        invoked.kitaru(*answer, code=3, **service)
        assert len(runs) == 2
        # The same submission again is the same run.
        resume = ("executions", "resume", exec_id, *at)
        again = invoked.kitaru(*resume, **service).document
        assert len(runs) == 2 and again["submission"]["run"] in runs.values()
        refused = invoked.kitaru(*resume, code=2, **service).error
        assert "submitted already" in refused["message"] and "--again" in refused["help"]
        invoked.kitaru(*resume, "--again", **service)
        assert len(runs) == 3


def test_an_answer_that_leaves_nothing_durable_completes_here(
    invoked: Invoked, tmp_path: Path
) -> None:
    exec_id = waiting(invoked, 1, tmp_path)
    answer = ("executions", "input", exec_id, "--value", "false", "--stack", "aws", "--json")
    done = invoked.kitaru(*answer).document
    assert (done["status"], done["result"], done["submission"]) == ("completed", "No", None)


def test_an_answer_that_cannot_be_submitted_is_recorded(invoked: Invoked, tmp_path: Path) -> None:
    other = invoked.kitaru("invoke", "review@v1", "-i", "topic=tea", "--stack", "aws", "--json")
    invoked.started.append(other.document)
    exec_id = waiting(invoked, -1, tmp_path)
    answer = ("executions", "input", exec_id, "--value", "true", "--json")
    failed = invoked.kitaru(
        *answer, "--set", "role=r", "--set", "colour=red", "--stack", "aws", code=2
    )
    assert failed.error["message"].startswith("The answer is recorded, but not submitted:")
    assert f"Then: kitaru executions resume {exec_id}" in failed.error["help"]
    shown = invoked.kitaru("executions", "get", exec_id, "--stack", "aws", "--json").document
    assert (shown["status"], shown["waits"]) == ("answered", [])


def waiting(invoked: Invoked, place: int, folder: Path) -> str:
    """Run the steps of an execution that was started, up to its wait; return its id."""
    started = invoked.started[place]
    for name in ("research", "draft"):
        code, log = invoked.step(started["deployment"], name, started["exec_id"], folder)
        assert code == 0, log
    return str(started["exec_id"])


def test_aws_secrets_manager(aws: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch) -> None:
    boto3 = pytest.importorskip("boto3")
    monkeypatch.setattr(redaction, "_known", redaction.Known())
    for name in ("_values", "_plan_references"):
        monkeypatch.setattr(secrets, name, {})
    made = boto3.client("secretsmanager").create_secret(Name="prod/key", SecretString="a value")
    for place in ("prod/key", made["ARN"]):
        secrets.use_plan_references({"SERVICE_KEY": f"aws:{place}"})
        assert secrets.find("SERVICE_KEY") == "a value"
    secrets.use_plan_references({"SERVICE_KEY": "aws:absent"})
    with pytest.raises(EnvironmentFailure, match="ResourceNotFoundException"):
        secrets.find("SERVICE_KEY")


@dataclass(frozen=True)
class Heard:
    """One request to a scripted service; `action` is what AWS calls it."""

    method: str
    path: str
    body: Any
    action: str = ""


@dataclass(frozen=True)
class Refused:
    """An answer with another status than 200."""

    status: int
    document: Any


# Stands for an answer that never comes back: the service has done what it was asked for.
LOST = object()


@contextmanager
def scripted(answer: Callable[[Heard], Any]) -> Iterator[tuple[str, list[Heard]]]:
    """Serve JSON over HTTP; `answer` gives the document for a request, None for 404."""
    heard: list[Heard] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            action = (self.headers.get("X-Amz-Target") or "").rpartition(".")[2]
            body = json.loads(text) if text else None
            heard.append(Heard(self.command, self.path, body, action))
            found = answer(heard[-1])
            if found is LOST:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if found is None:
                found = Refused(404, {"error": "not here", "code": 5})
            status, document = 200, found
            if isinstance(found, Refused):
                status, document = found.status, found.document
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = _answer

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing."""

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
started = [submit(document, parameters, options) for _ in range(2)][-1]
print(json.dumps([started.run_id, started.url]), file=sys.stderr)
"""


KUBEFLOW_RUNS: list[Any] = []


def kubeflow(request: Heard) -> Any:
    """Answer as the API server of Kubeflow Pipelines does for one user."""
    path = request.path.partition("?")[0].removeprefix("/apis/v2beta1/")
    experiment = {"experiment_id": "e-1", "display_name": "agents"}
    match request.method, path:
        case "GET", "runs":
            # As the service does, it takes any name twice; who asks first sees which there are.
            return {"runs": [*KUBEFLOW_RUNS]}
        case "GET", "healthz":
            return {"multi_user": False}
        case "GET", "experiments":
            return {"experiments": [experiment]}
        case "POST", "runs":
            KUBEFLOW_RUNS.append({**request.body, "run_id": "r-1"})
            return KUBEFLOW_RUNS[-1]
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
        options = {"host": url, "experiment_name": "agents", "once": "tea"}
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
