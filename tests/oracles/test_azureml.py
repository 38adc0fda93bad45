"""Azure ML's own SDK accepts our documents, and would send their contents."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from kitaru_targets import registry
from kitaru_targets.common import parameters, read
from kitaru_targets.upload import carry

from kitaru.stores import open_store
from tests.oracles.ask import ask, python
from tests.oracles.test_flows import builds
from tests.oracles.test_shapes import PARAMETERS, PROGRAMS
from tests.oracles.test_submit import BIND, Calls
from tests.targets.programs import WIRING, plan
from tests.targets.test_native_schedules import compiled

TARGET = registry.get("azureml")
OPTIONS = {
    "subscription_id": "s", "resource_group_name": "g", "workspace_name": "w",
    "compute": "cluster", "experiment_name": "e",
}  # fmt: skip
SETTINGS = {
    "compute": "cluster", "environment": "azureml:agents:3", "identity": "user_identity",
    "max_seconds": "600",
}  # fmt: skip
# Texts that a reader on the way could take for something else.
ARGUMENTS = {"topic": "007", "rounds": 3, "share": 1e-07, "dry": False, "late": "1e3"}


def shapes(folder: Path) -> list[Path]:
    paths = []
    for name, program in PROGRAMS.items():
        text = TARGET.emit(plan(program, parameters=PARAMETERS), WIRING).text
        assert TARGET.validate(text) == []
        paths.append(folder / f"{name}.yaml")
        paths[-1].write_text(text)
    told = plan(PROGRAMS["line"], parameters=PARAMETERS, options=SETTINGS)
    paths.append(folder / "told.yaml")
    paths[-1].write_text(TARGET.emit(told, WIRING).text)
    return paths


def test_the_sdk_takes_every_document_and_sends_what_it_says(tmp_path: Path) -> None:
    store = open_store("memory:")
    cases = [
        *((b.document, carry(b, inputs, store)) for b, inputs in builds("azureml", tmp_path)),
        *((path, ARGUMENTS) for path in shapes(tmp_path)),
    ]
    # The SDK drops an empty text: where one was given, it has to travel in another way.
    assert any(parameters.INPUTS in arguments for _, arguments in cases)
    jobs = [{"path": str(path), "arguments": arguments} for path, arguments in cases]
    for (path, arguments), answer in zip(cases, ask("azureml", jobs), strict=True):
        document = read.parse(path.read_text())
        assert answer["problems"] == [], path
        expected = {n: str(v) for n, v in {**document["inputs"], **arguments}.items()}
        assert answer["inputs"] == expected, path
        commands = {n: job["component"]["command"] for n, job in document["jobs"].items()}
        assert answer["jobs"] == commands, path


def test_the_sdk_finds_what_is_wrong_and_we_find_what_it_does_not(tmp_path: Path) -> None:
    text = shapes(tmp_path)[0].read_text()
    unknown = "parent.jobs.zz.outputs.outcome"
    wrong = {
        "seen": text.replace('type: "command"', 'type: "comand"', 1),
        "also seen": text.replace("parent.inputs.topic", "parent.inputs.zz"),
        "not seen": text.replace("parent.jobs.research.outputs.outcome", unknown),
        "not seen either": text.replace("rounds: 2", 'rounds: "two"'),
    }
    jobs = []
    for name, changed in wrong.items():
        assert changed != text, name
        assert TARGET.validate(changed) != [], name
        (tmp_path / f"{name}.yaml").write_text(changed)
        jobs.append({"path": str(tmp_path / f"{name}.yaml"), "arguments": {"topic": "owls"}})
    answers = ask("azureml", jobs)
    seen = {name: bool(answer["problems"]) for name, answer in zip(wrong, answers, strict=True)}
    assert seen["seen"], json.dumps(seen)
    assert not seen["not seen"] and not seen["not seen either"], json.dumps(seen)


def test_the_sdk_reads_the_schedule_and_its_job(tmp_path: Path) -> None:
    made = compiled(tmp_path, "azureml", zone="UTC")
    path = str(made.directory / "schedule.yaml")
    (found,) = ask("azureml", [{"path": path, "document": str(made.document), "is_schedule": True}])
    assert found == {
        "problems": [],
        "trigger": ["Cron", "0 2 * * MON-FRI", "UTC"],
        "steps": ["count"],
    }


def test_a_submission_calls_the_sdk_as_it_can_be_called(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls()
    started = SimpleNamespace(name="job-1", studio_url="https://studio")
    create = calls.function("azure.ai.ml.operations:JobOperations.create_or_update", started)
    client = SimpleNamespace(jobs=SimpleNamespace(create_or_update=create))
    ml, identity = ModuleType("azure.ai.ml"), ModuleType("azure.identity")
    ml.__dict__["load_job"] = calls.function("azure.ai.ml:load_job", "the job")
    ml.__dict__["MLClient"] = calls.function("azure.ai.ml:MLClient.__init__", client)
    credential = "azure.identity:DefaultAzureCredential.__init__"
    identity.__dict__["DefaultAzureCredential"] = calls.function(credential, "me")
    for module in (ModuleType("azure"), ModuleType("azure.ai"), ml, identity):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    found = TARGET.submit("pipeline.yaml", {"topic": "owls", "kitaru_execution": ""}, OPTIONS)
    assert (found.run_id, found.url) == ("job-1", "https://studio")
    given = {key: value for _, kwargs in calls for key, value in kwargs.items()}
    assert given["params_override"] == [
        {"inputs.topic": "owls"},
        {"settings.default_compute": "azureml:cluster"},
    ]
    assert (given["source"], given["job"], given["credential"]) == (
        "pipeline.yaml",
        "the job",
        "me",
    )
    assert given["experiment_name"] == "e" and given["workspace_name"] == "w"
    # What binds the names gives the first argument itself: that of a function is `source`.
    asked = json.dumps([[dotted, sorted({*kwargs} - {"source"})] for dotted, kwargs in calls])
    done = subprocess.run(
        [python("azureml"), "-W", "ignore", "-c", BIND, asked], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
