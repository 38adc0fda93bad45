"""A service accepts a run and its answer is lost: the submission again is the same run.

The vendor's own SDK speaks to a server on loopback that keeps runs as the service documents it: by
name or token where the service knows one. It does what it is asked for and closes the connection.
Two submissions of one name: the first fails, the second ends with the run that there is.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kitaru_targets import registry

from ..cli import flows
from ..cli.conftest import Kitaru
from ..oracles.ask import ROOT, python
from ..oracles.clusters import write_kubeconfig
from .test_services import ARN, LOST, ROLE, Heard, Refused, scripted

NAME = "kitaru-1m8-x-2-1"
DRIVER = """
import base64, json, sys, time
# SDKs wait for seconds before they ask again.
time.sleep = lambda seconds: None
target, document, url, options = json.loads(sys.argv[1])
if target == "vertex":
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import aiplatform
    aiplatform.init(
        api_endpoint=url, api_transport="rest", credentials=AnonymousCredentials(), project="p",
        location="us-central1",
    )
if target == "azureml":
    import azure.identity
    from azure.ai.ml import _ml_client
    from azure.core.credentials import AccessToken
    # The server on loopback has no certificate.
    from azure.core.pipeline.policies import _authentication
    _authentication._enforce_https = lambda request: request.context.options.pop(
        "enforce_https", None
    )
    class Anyone:
        def get_token(self, *scopes, **options):
            # The SDK reads who asks, and for what.
            named = {"oid": "o", "tid": "t", "aud": scopes[0].removesuffix("/.default")}
            parts = [json.dumps(part).encode() for part in ({"alg": "none"}, named)]
            texts = [base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts]
            return AccessToken(".".join([*texts, "c2ln"]), int(time.time()) + 3600)
    azure.identity.DefaultAzureCredential = Anyone
    _ml_client._get_base_url_from_metadata = lambda *arguments, **options: url
from kitaru.errors import EnvironmentFailure
from kitaru_targets import registry
parameters = {"topic": "tea", "kitaru_execution": "x"}
for _ in range(2):
    try:
        print(registry.get(target).submit(document, parameters, options).run_id, file=sys.stderr)
    except EnvironmentFailure as error:
        print("failed:", " ".join(str(error).split())[:300], file=sys.stderr)
"""


@dataclass
class Service:
    """Runs by name or token, as a service keeps them; the first answers are lost."""

    lost: int
    runs: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def start(self, name: str, run: Any, twice: Any = None) -> Any:
        """Start a run once. `twice` is the response if a run of this name already exists."""
        self.asked.append(name)
        is_new = name not in self.runs
        self.runs.setdefault(name, run)
        if self.lost:
            self.lost -= 1
            return LOST
        return self.runs[name] if is_new or twice is None else twice


def kubeflow(service: Service) -> Callable[[Heard], Any]:
    def answer(request: Heard) -> Any:
        path = request.path.partition("?")[0].removeprefix("/apis/v2beta1/")
        match request.method, path:
            case "GET", "runs":
                return {"runs": [*service.runs.values()]}
            case "GET", "healthz":
                return {"multi_user": False}
            case "GET", "experiments":
                return {"experiments": [{"experiment_id": "e", "display_name": "agents"}]}
            case "POST", "runs":
                # It takes a name twice, and names the run itself.
                number = f"r-{len(service.runs)}"
                run = {**request.body, "run_id": number}
                assert run["display_name"] == NAME
                return service.start(number, run)
        return None

    return answer


def vertex(service: Service) -> Callable[[Heard], Any]:
    def answer(request: Heard) -> Any:
        path, _, query = request.path.partition("?")
        if "/pipelineJobs" not in path:
            return {"name": "bucket"}
        name = query.partition("pipelineJobId=")[2].partition("&")[0]
        run = {"name": f"projects/1/locations/l/pipelineJobs/{name}"}
        conflict = {"code": 409, "status": "ALREADY_EXISTS", "message": "exists already"}
        return service.start(name, run, Refused(409, {"error": conflict}))

    return answer


def sagemaker(service: Service) -> Callable[[Heard], Any]:
    def answer(request: Heard) -> Any:
        if request.action != "StartPipelineExecution":
            return {"PipelineArn": ARN}
        run = {"PipelineExecutionArn": f"{ARN}/execution/{len(service.runs)}"}
        return service.start(request.body["ClientRequestToken"], run)

    return answer


def stepfunctions(service: Service) -> Callable[[Heard], Any]:
    revisions: list[Heard] = []

    def answer(request: Heard) -> Any:
        if request.action == "RegisterTaskDefinition":
            revisions.append(request)
            return {"taskDefinition": {"taskDefinitionArn": f"{STATES}:x/{len(revisions)}"}}
        if request.action == "CreateStateMachine":
            return {"stateMachineArn": f"{STATES}:stateMachine:review", "creationDate": 0}
        name = request.body["name"]
        run = {"executionArn": f"{STATES}:execution:review:{name}", "startDate": 0}
        # Each submission has a revision of its own, and the service compares the inputs.
        twice = {"__type": "ExecutionAlreadyExists", "message": "exists already"}
        return service.start(name, run, Refused(400, twice))

    return answer


def kubernetes(service: Service) -> Callable[[Heard], Any]:
    def answer(request: Heard) -> Any:
        if request.path.partition("?")[0].endswith("/configmaps"):
            return request.body
        twice = Refused(409, {"reason": "AlreadyExists", "message": "exists already"})
        return service.start(request.body["metadata"]["name"], request.body, twice)

    return answer


def azureml(service: Service) -> Callable[[Heard], Any]:
    def answer(request: Heard) -> Any:
        path = request.path.partition("?")[0]
        name = path.rpartition("/")[2]
        made = {**(request.body or {}), "id": path, "name": name}
        if "/codes/" in path:
            # The build is in the workspace since an earlier run: nothing is uploaded.
            code = {"id": f"{path.partition('/versions')[0]}/versions/1", "name": "1"}
            code["properties"] = {"codeUri": "https://account.blob.core.windows.net/c/build"}
            return code if path.endswith("/1") else {"value": [code]}
        if "/jobs/" not in path:
            return made
        if request.method == "GET":
            return service.runs.get(name)
        conflict = {"error": {"code": "UserError", "message": "the job cannot be changed"}}
        return service.start(name, made, Refused(400, conflict))

    return answer


def airflow(service: Service) -> Callable[[Heard], Any]:
    def answer(request: Heard) -> Any:
        name = request.body["dag_run_id"]
        times = {"queued_at": None, "run_after": "2026-11-29T00:00:00Z"}
        run = {
            "dag_run_id": name, "dag_id": "review", "dag_display_name": "review", "state": "queued",
            "run_type": "manual", "dag_versions": [], "conf": {}, "bundle_version": None, **times,
        }  # fmt: skip
        return service.start(name, run, Refused(409, {"detail": "exists already"}))

    return answer


def argo(service: Service) -> Callable[[Heard], Any]:
    def answer(request: Heard) -> Any:
        if request.method == "GET":
            return service.runs.get(request.path.rpartition("/")[2])
        assert request.path == "/api/v1/workflows/agents"
        workflow = request.body["workflow"]
        name = workflow["metadata"]["name"]
        made = {**workflow["metadata"], "namespace": "agents", "uid": "0"}
        refused = Refused(409, {"code": 6, "message": f'workflows "{name}" already exists'})
        return service.start(name, {**workflow, "metadata": made}, refused)

    return answer


STATES = "arn:aws:states:us-east-1:123456789012"
WORKSPACE = {"subscription_id": "s", "resource_group_name": "g", "workspace_name": "w"}
# By target: the interpreter with its SDK, the service, its options, its variables.
SERVICES: dict[str, tuple[str, Any, dict[str, str], dict[str, str]]] = {
    "kubeflow": ("kfp", kubeflow, {"host": "URL", "experiment_name": "agents"}, {}),
    "vertex": (
        "vertex", vertex, {"project": "p", "location": "us-central1", "pipeline_root": "gs://b/r"},
        {"STORAGE_EMULATOR_HOST": "URL"},
    ),
    "sagemaker": (
        "sagemaker", sagemaker, {"role": ROLE, "image": "i", "region": "us-east-1"},
        {"AWS_ENDPOINT_URL": "URL", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"},
    ),
    "stepfunctions": (
        "sagemaker", stepfunctions, {"role": ROLE, "region": "us-east-1"},
        {"AWS_ENDPOINT_URL": "URL", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"},
    ),
    "azureml": ("azureml", azureml, WORKSPACE, {}),
    "kubernetes": ("kubernetes", kubernetes, {}, {}),
    "airflow": ("", airflow, {"url": "URL", "token": "t"}, {}),
    "argo": ("", argo, {"url": "URL", "token": "t", "namespace": "agents"}, {}),
}  # fmt: skip
# SDKs that ask again by themselves do so this often, each time under the same name.
OWN_ATTEMPTS = {"sagemaker": 5, "stepfunctions": 5, "azureml": 4}


@pytest.mark.parametrize("target", SERVICES)
def test_a_run_whose_start_was_not_confirmed_is_the_run(target: str, tmp_path: Path) -> None:
    sdk, make, options, variables = SERVICES[target]
    if not sdk:
        pytest.importorskip("airflow_client")
    interpreter = str(python(sdk)) if sdk else sys.executable
    kitaru = Kitaru(tmp_path)
    kitaru.write("pyproject.toml", "[tool.kitaru]\n")
    kitaru.write("review.py", flows.REVIEW)
    kitaru("compile", "review.py", "-t", target, "--store", "s3://bucket/flows")
    document = tmp_path / "build" / "review" / target / registry.get(target).document
    service = Service(lost=OWN_ATTEMPTS.get(target, 1))
    with scripted(make(service)) as (url, _):
        write_kubeconfig(tmp_path / ".kube" / "config", url)
        chosen = {name: value.replace("URL", url) for name, value in options.items()}
        asked = json.dumps([target, str(document), url, {**chosen, "once": NAME}])
        roots = [str(ROOT), *(str(ROOT / name) for name in ("compiler", "targets", "templates"))]
        environment = {
            **{name: value.replace("URL", url) for name, value in variables.items()},
            "PYTHONPATH": ":".join(roots), "HOME": str(tmp_path), "PATH": os.environ["PATH"],
        }  # fmt: skip
        done = subprocess.run(
            [interpreter, "-W", "ignore", "-c", DRIVER, asked],
            capture_output=True, text=True, env=environment, timeout=300,
        )  # fmt: skip
    told = [row for row in done.stderr.splitlines() if row][-2:]
    assert done.returncode == 0, done.stderr
    # Of Azure ML, the submission itself looks whether there is a job of its name.
    assert told[0] == NAME if target == "azureml" else told[0].startswith("failed:"), done.stderr
    assert len(service.runs) == 1 and len({*service.asked}) == 1, (service.asked, done.stderr)
    (name,) = service.runs
    assert re.split("[/:]", told[1])[-1] in (name, "0"), done.stderr
    if target == "sagemaker":
        assert len(name) == 64
    elif target != "kubeflow":
        assert name == NAME
