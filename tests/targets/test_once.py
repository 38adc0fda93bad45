"""A run that was started under a name is not started again, as far as each service can tell."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from kitaru_targets import registry
from kitaru_targets.airflow import submit as airflow

from kitaru.errors import EnvironmentFailure

NAME = "kitaru-1m8-x-2-1"


class Conflict(Exception):
    """What a service raises that has a run of this name."""

    code = status = 409


class Denied(Exception):
    """What a service raises that does not know who asks."""

    code = status = 403


@pytest.fixture(params=[None, Conflict, Denied])
def refusal(request: pytest.FixtureRequest) -> type[Exception] | None:
    found: type[Exception] | None = request.param
    return found


def raising(refusal: type[Exception] | None, found: Any) -> Any:
    def call(*_: Any, **__: Any) -> Any:
        if refusal is not None:
            raise refusal("no")
        return found

    return call


def modules(monkeypatch: pytest.MonkeyPatch, **named: dict[str, Any]) -> None:
    """Stand in for SDKs; `_` in a name is a dot."""
    for name, values in named.items():
        dotted = name.replace("_", ".")
        parts = dotted.split(".")
        for length in range(1, len(parts)):
            parent = ".".join(parts[:length])
            monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
        module = ModuleType(dotted)
        module.__dict__.update(values)
        monkeypatch.setitem(sys.modules, dotted, module)


def vertex(monkeypatch: pytest.MonkeyPatch, refusal: type[Exception] | None) -> str:
    def job(**options: Any) -> Any:
        assert options["job_id"] == NAME
        resource = f"projects/p/locations/l/pipelineJobs/{options['job_id']}"
        return SimpleNamespace(
            submit=raising(refusal, None), resource_name=resource, project="p", location="l",
            _dashboard_uri=lambda: "",
        )  # fmt: skip

    modules(monkeypatch, google_cloud_aiplatform={"PipelineJob": job})
    found = registry.get("vertex").submit("pipeline.yaml", {}, {"project": "p", "once": NAME})
    return found.run_id.rpartition("/")[2]


def azureml(monkeypatch: pytest.MonkeyPatch, refusal: type[Exception] | None) -> str:
    def load(source: str, params_override: list[dict[str, Any]]) -> Any:
        return params_override[-1]["name"]

    def get(name: str) -> Any:
        if refusal is Denied:
            raise Denied("no")
        return SimpleNamespace(name=name, studio_url="")

    def create(job: str) -> Any:
        return raising(refusal, SimpleNamespace(name=job, studio_url=""))()

    client = SimpleNamespace(jobs=SimpleNamespace(create_or_update=create, get=get))
    modules(
        monkeypatch,
        azure_ai_ml={"load_job": load, "MLClient": lambda **_: client},
        azure_identity={"DefaultAzureCredential": lambda: None},
    )
    place = dict.fromkeys(("subscription_id", "resource_group_name", "workspace_name"), "w")
    return registry.get("azureml").submit("pipeline.yaml", {}, {**place, "once": NAME}).run_id


def on_airflow(monkeypatch: pytest.MonkeyPatch, refusal: type[Exception] | None) -> str:
    def call(self: Any, api: str, method: str, dag: str, body: Any) -> Any:
        try:
            return raising(refusal, SimpleNamespace(dag_run_id=body["dag_run_id"]))()
        except Exception as error:
            raise EnvironmentFailure("Airflow did not do it") from error

    def connect(self: Any, options: Any) -> None:
        self.url, self.client = "http://a", SimpleNamespace(TriggerDAGRunPostBody=dict)

    monkeypatch.setattr(airflow.Connection, "__init__", connect)
    monkeypatch.setattr(airflow.Connection, "call", call)
    monkeypatch.setattr(
        airflow.dag_file, "read", lambda text: SimpleNamespace(dag={"dag_id": "review"})
    )
    found = airflow.submit(__file__, {}, {"url": "http://a", "once": NAME})
    return found.run_id.rpartition("/")[2]


@pytest.mark.parametrize("start", [vertex, azureml, on_airflow])
def test_a_run_of_the_name_is_the_run(
    monkeypatch: pytest.MonkeyPatch, refusal: type[Exception] | None, start: Any
) -> None:
    if refusal is Denied:
        with pytest.raises(EnvironmentFailure):
            start(monkeypatch, refusal)
    else:
        assert start(monkeypatch, refusal) == NAME


def test_every_orchestrator_can_be_told_a_name() -> None:
    assert {registry.get(name).run_option for name in registry.names()} == {"once"}
