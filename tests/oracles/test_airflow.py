"""Airflow itself reads every DAG file, and accepts the inputs that Kitaru passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from kitaru_compiler import compile_flow
from kitaru_targets import build, registry
from kitaru_targets.airflow import dag_file

from tests.field.test_field import FLOWS
from tests.oracles.ask import ask
from tests.oracles.test_flows import CASES
from tests.oracles.test_shapes import PARAMETERS, PROGRAMS
from tests.targets.programs import WIRING, plan

TARGET = registry.get("airflow")


@dataclass(frozen=True)
class Job:
    """A DAG file and the inputs of a run of it."""

    path: Path
    conf: dict[str, Any]

    def document(self) -> dag_file.DagFile:
        return dag_file.read(self.path.read_text())


def flows(folder: Path) -> Iterator[tuple[str, Job]]:
    """Yield every case and every flow of the field, as processes and as pods."""
    given = {name: (case.file, None, case.inputs) for name, case in CASES.items()}
    for file, flow in {"approval": "article", "batch": "classify_all", "rag": "ask"}.items():
        given[file] = (FLOWS / f"{file}.py", flow, {})
    built: dict[tuple[Path, str], build.Build] = {}
    for name, (file, flow, inputs) in given.items():
        for image in ("", "registry/image:1"):
            if (file, image) not in built:
                found = compile_flow(file, flow, profile=TARGET.profile)
                where, store = folder / f"{len(built)}", "s3://bucket/prefix"
                made = build.write(found, TARGET, where, store=store, image=image or None)
                built[file, image] = made
            made = built[file, image]
            yield f"{name} {image}", Job(made.document, build.parameters.values(made.plan, inputs))


def shapes(folder: Path) -> Iterator[tuple[str, Job]]:
    """Yield every shape of a program, as processes and as pods."""
    for name, program in PROGRAMS.items():
        for image in ("", "registry/image:1"):
            wiring = replace(WIRING, image=image, environment={"LABEL": "x.sh", "DAY": "{{ ds }}"})
            path = folder / f"shape-{name}-{len(image)}.py"
            path.write_text(TARGET.emit(plan(program, parameters=PARAMETERS), wiring).text)
            yield f"{name} {image}", Job(path, {"topic": "{{ ds }}", "dry": False})


def others(folder: Path) -> Iterator[tuple[str, Job]]:
    """Yield a run with an input that does not fit, and one with a schedule and a pool."""
    made = plan(PROGRAMS["line"], parameters=PARAMETERS)
    (folder / "refused.py").write_text(TARGET.emit(made, WIRING).text)
    yield "refused", Job(folder / "refused.py", {"topic": "x", "rounds": "many"})
    options = {"schedule": "0 7 * * 1", "pool": "models", "namespace": "flows"}
    made = plan(PROGRAMS["line"], parameters=PARAMETERS[1:]).replace(options=options)
    (folder / "schedule.py").write_text(TARGET.emit(made, WIRING).text)
    yield "schedule", Job(folder / "schedule.py", {})


Said = dict[str, tuple[Job, dict[str, Any]]]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Said]:
    """Return what Airflow says of all jobs, by kind: it takes seconds to start."""
    folder = tmp_path_factory.mktemp("airflow")
    made = {kind.__name__: dict(kind(folder)) for kind in (flows, shapes, others)}
    jobs = [job for kind in made.values() for job in kind.values()]
    asked = [{"path": str(job.path), "conf": job.conf} for job in jobs]
    answers = iter(ask("airflow", asked, folder))
    return {
        kind: {name: (job, next(answers)) for name, job in found.items()}
        for kind, found in made.items()
    }


def test_airflow_reads_every_flow(said: dict[str, Said]) -> None:
    for name, (job, answer) in said["flows"].items():
        assert answer["problems"] == [], name
        document = job.document()
        ids = [task.id for task in document.tasks]
        following = [{after} for _, after in pairwise(ids)] + [set()]
        for task in document.tasks:
            if isinstance(task.options.get("of"), str):
                following[ids.index(task.options["of"])].add(task.id)
        kinds = ["Ask" if task.operator == "Ask" else "Step" for task in document.tasks]
        expected = zip(ids, kinds, map(sorted, following), strict=True)
        assert answer["tasks"] == [list(task) for task in expected], name
        defaults = {n: p["default"] for n, p in document.params.items() if "default" in p}
        assert answer["params"] == {**defaults, **job.conf}, name
        assert answer["again"], "two readings of one file make one version"


def test_airflow_reads_every_shape(said: dict[str, Said]) -> None:
    for name, (job, answer) in said["shapes"].items():
        assert TARGET.validate(job.path.read_text()) == []
        assert answer["problems"] == [] and answer["params"]["topic"] == "{{ ds }}", name


def test_airflow_takes_a_schedule_and_a_pool(said: dict[str, Said]) -> None:
    _, answer = said["others"]["schedule"]
    assert answer["problems"] == [] and answer["schedule"] == "0 7 * * 1"


def test_airflow_refuses_an_input_of_another_type(said: dict[str, Said]) -> None:
    (problem,) = said["others"]["refused"][1]["problems"]
    assert "Invalid input for param rounds" in problem
