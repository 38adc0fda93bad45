"""Submissions call the vendors' SDKs with valid arguments. No service is contacted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from kitaru_targets import registry

from kitaru.errors import EnvironmentFailure, UsageError
from tests.targets.test_native_schedules import compiled

from .ask import python

OPTIONS = {
    "kubeflow": {"host": "http://h", "namespace": "n", "experiment_name": "e", "run_name": "r"},
    "vertex": {
        "project": "p",
        "location": "l",
        "pipeline_root": "gs://b",
        "service_account": "s",
        "labels": "team=ml, env=prod",
    },
}
BIND = """
import inspect, json, sys
from importlib import import_module
for dotted, names in json.loads(sys.argv[1]):
    module, _, path = dotted.partition(":")
    found = import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    inspect.signature(found).bind(None, **dict.fromkeys(names))
"""


class Calls(list[tuple[str, dict[str, Any]]]):
    """Stands in for an SDK's functions and keeps how they were called."""

    def function(self, name: str, result: Any = None) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.append((name, dict(zip(["pipeline_file"], args, strict=False)) | kwargs))
            return result

        return call


def kfp(calls: Calls) -> ModuleType:
    module = ModuleType("kfp")
    run = SimpleNamespace(run_id="r-1")
    start = calls.function("kfp:Client.create_run_from_pipeline_package", run)
    client = SimpleNamespace(create_run_from_pipeline_package=start)
    module.__dict__["Client"] = calls.function("kfp:Client.__init__", client)
    return module


def aiplatform(calls: Calls) -> ModuleType:
    module = ModuleType("google.cloud.aiplatform")
    submit = calls.function("google.cloud.aiplatform:PipelineJob.submit")
    job = SimpleNamespace(submit=submit, resource_name="job-1", _dashboard_uri=lambda: "https://c")
    init = calls.function("google.cloud.aiplatform:PipelineJob.__init__", job)
    module.__dict__["PipelineJob"] = init
    return module


SDKS = {
    "kubeflow": ("kfp", "kfp", kfp),
    "vertex": ("vertex", "google.cloud.aiplatform", aiplatform),
}


@pytest.mark.parametrize("target", SDKS)
def test_the_calls_fit_the_sdk(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    oracle, name, fake = SDKS[target]
    calls = Calls()
    for part in ("google", "google.cloud"):
        monkeypatch.setitem(sys.modules, part, ModuleType(part))
    monkeypatch.setitem(sys.modules, name, fake(calls))
    started = registry.get(target).submit("pipeline.yaml", {"topic": "owls"}, OPTIONS[target])
    assert started.run_id in ("r-1", "job-1")
    given = {key: value for _, kwargs in calls for key, value in kwargs.items()}
    labels = {"labels": {"team": "ml", "env": "prod"}} if target == "vertex" else {}
    assert (OPTIONS[target] | labels).items() <= given.items()
    assert given["enable_caching"] is False
    assert {"topic": "owls"} in given.values() and "pipeline.yaml" in given.values()
    asked = json.dumps([[dotted, sorted(kwargs)] for dotted, kwargs in calls])
    done = subprocess.run(
        [python(oracle), "-W", "ignore", "-c", BIND, asked], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("target", SDKS)
def test_a_missing_sdk_and_a_wrong_option_are_said(
    monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setitem(sys.modules, SDKS[target][1], None)
    with pytest.raises(EnvironmentFailure, match="not installed"):
        registry.get(target).submit("pipeline.yaml", {}, {})
    with pytest.raises(UsageError, match="'colour'"):
        registry.get(target).submit("pipeline.yaml", {}, {"colour": "red"})


def test_a_service_that_refuses_is_an_environment_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise ConnectionError("nobody there")

    module = ModuleType("kfp")
    module.__dict__["Client"] = refuse
    monkeypatch.setitem(sys.modules, "kfp", module)
    with pytest.raises(EnvironmentFailure, match="nobody there"):
        registry.get("kubeflow").submit(str(Path("pipeline.yaml")), {}, {})


def test_vertex_creates_a_schedule_from_its_options(tmp_path: Path) -> None:
    made = compiled(tmp_path, "vertex", overlap="queue")
    options = [*json.loads(made.read("schedule.json")), "service_account"]
    asked = json.dumps([["google.cloud.aiplatform:PipelineJob.create_schedule", options]])
    done = subprocess.run(
        [python("vertex"), "-W", "ignore", "-c", BIND, asked], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
