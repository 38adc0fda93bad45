"""Hera, whose models are made from Argo's API, reads and writes our documents unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kitaru_targets import registry
from kitaru_targets.argo import submit
from kitaru_targets.common import read, yaml

from tests.oracles.ask import ask
from tests.oracles.test_shapes import PARAMETERS, PROGRAMS, emit
from tests.targets.programs import WIRING, Do, plan
from tests.targets.test_argo import ASKS, WHOLE
from tests.targets.test_native_schedules import compiled

pytestmark = pytest.mark.slow

TARGET = registry.get("argo")
# Every option of a project, and a secret.
OPTIONS = {
    **ASKS, "semaphore": "limits/agents", "max_seconds": "600", "keep_seconds": "86400",
    "labels": "team=ml", "annotations": "a.org/b=c", "node_selector": "pool=gpu",
    "tolerations": "spot:NoSchedule, gpu=yes:NoExecute", "image_pull_secrets": "registry",
    "secret_volumes": "tls:/etc/tls",
}  # fmt: skip


def problems(*documents: Path) -> list[Any]:
    return [one["problems"] for one in ask("argo", [{"path": str(path)} for path in documents])]


def test_hera_takes_every_shape(tmp_path: Path) -> None:
    shapes = {**PROGRAMS, "whole": WHOLE, "fan": (Do("a"), Do("b", gathers=True))}
    documents = [
        emit("argo", program, tmp_path / f"{name}.yaml") for name, program in shapes.items()
    ]
    made = plan(WHOLE, parameters=PARAMETERS, options=OPTIONS)
    secret = made.replace(secrets={"KEY": "k8s:openai/api-key"})
    documents.append(tmp_path / "options.yaml")
    documents[-1].write_text(TARGET.emit(secret, WIRING).text)
    assert problems(*documents) == [[]] * len(documents)


def test_hera_takes_the_run_that_is_started(tmp_path: Path) -> None:
    template = read.parse(TARGET.emit(plan(WHOLE, parameters=PARAMETERS), WIRING).text)
    given = {"topic": "tea", "rounds": 3, "dry": False, "kitaru_execution": "e-1"}
    metadata = {"name": "run-1", "labels": {submit.EXECUTION_LABEL: "e-1"}}
    run = tmp_path / "run.yaml"
    run.write_text(yaml.dump(submit.workflow(template, metadata, given)))
    assert problems(run) == [[]]


def test_hera_takes_the_schedule(tmp_path: Path) -> None:
    made = compiled(tmp_path, "argo")
    assert problems(made.directory / "schedule.yaml") == [[]]


def test_hera_finds_what_our_check_finds_among_fields_and_types(tmp_path: Path) -> None:
    text = TARGET.emit(plan(WHOLE), WIRING).text
    faults = {
        "field": text.replace("serviceAccountName:", "serviceAccount:"),
        "misspelt": text.replace("depends:", "dependsOn:"),
        "number": text.replace('limit: "1"', "limit: [1]"),
        "missing": text.replace('- name: "a"\n', '- nam: "a"\n'),
    }
    for name, faulty in faults.items():
        assert faulty != text and TARGET.validate(faulty), name
        path = tmp_path / f"{name}.yaml"
        path.write_text(faulty)
        (found,) = problems(path)
        assert found, name
