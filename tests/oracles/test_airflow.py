"""Airflow itself reads every DAG file, and accepts the inputs that Kitaru passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kitaru_compiler import compile_flow
from kitaru_targets import build, registry
from kitaru_targets.airflow import dag_file
from kitaru_targets.base import ContainerSpec

from kitaru.wire.plan import Plan, PlannedSchedule
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


def write(path: Path, made: Plan, wiring: ContainerSpec = WIRING) -> None:
    """Write a document and the files next to it."""
    emission = TARGET.emit(made, wiring)
    for name, text in {path.name: emission.text, **emission.files}.items():
        (path.parent / name).write_text(text)


def shapes(folder: Path) -> Iterator[tuple[str, Job]]:
    """Yield every shape of a program, as processes and as pods."""
    for name, program in PROGRAMS.items():
        for image in ("", "registry/image:1"):
            wiring = replace(WIRING, image=image, environment={"LABEL": "x.sh", "DAY": "{{ ds }}"})
            path = folder / f"shape-{name}-{len(image)}.py"
            write(path, plan(program, parameters=PARAMETERS), wiring)
            yield f"{name} {image}", Job(path, {"topic": "{{ ds }}", "dry": False})


def others(folder: Path) -> Iterator[tuple[str, Job]]:
    """Yield a run with an input that does not fit, and one with a schedule and a pool."""
    made = plan(PROGRAMS["line"], parameters=PARAMETERS)
    write(folder / "refused.py", made)
    yield "refused", Job(folder / "refused.py", {"topic": "x", "rounds": "many"})
    tasks = {"pool": "models", "queue": "gpu", "owner": "ml", "executor": "LocalExecutor"}
    options = {**tasks, "namespace": "flows"}
    daily = PlannedSchedule("0 2 * * *", "Europe/Berlin", "queue", "last", "target")
    made = plan(PROGRAMS["line"], parameters=PARAMETERS[1:])
    made = made.replace(options=options, schedule=daily)
    write(folder / "schedule.py", made)
    yield "schedule", Job(folder / "schedule.py", {})
    ago = datetime.now(UTC) - timedelta(minutes=2)
    recent = PlannedSchedule(f"{ago.minute} {ago.hour} * * *", "UTC", "queue", "last", "target")
    write(folder / "recent.py", made.replace(schedule=recent))
    yield "recent", Job(folder / "recent.py", {})
    options = {
        "image_pull_secrets": "registry",
        "node_selector": "pool=gpu",
        "tolerations": "nvidia.com/gpu=present:NoSchedule, spot:NoExecute",
        "labels": "team=ml",
        "annotations": "note=a",
        "secret_volumes": "tls:/etc/tls",
    }
    made = plan(PROGRAMS["line"], parameters=PARAMETERS[1:])
    secrets = {"OPENAI_API_KEY": "k8s:openai/key"}
    write(folder / "pods.py", made.replace(options=options, secrets=secrets))
    yield "pods", Job(folder / "pods.py", {})


Said = dict[str, tuple[Job, dict[str, Any]]]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Said]:
    """Return what Airflow says of all jobs, by kind: it takes seconds to start."""
    folder = tmp_path_factory.mktemp("airflow")
    made = {kind.__name__: dict(kind(folder)) for kind in (flows, shapes, others)}
    jobs = [job for kind in made.values() for job in kind.values()]
    asked = [{"path": str(job.path), "conf": job.conf} for job in jobs]
    answers = iter(ask("airflow", asked))
    return {
        kind: {name: (job, next(answers)) for name, job in found.items()}
        for kind, found in made.items()
    }


def test_airflow_reads_every_flow(said: dict[str, Said]) -> None:
    for name, (job, answer) in said["flows"].items():
        assert answer["problems"] == [], name
        document = job.document()
        ids = [task.id for task in document.tasks]
        following = [{t.id for t in document.tasks if one in t.after} for one in ids]
        kinds = ["Ask" if task.method == "ask" else "Step" for task in document.tasks]
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
    assert answer["problems"] == []
    # At 02:00 in Berlin. Of the two on the day on which the clock repeats it, the second.
    assert answer["schedule"] == {
        "summary": "0 2 * * *",
        "most_runs": 1,
        "starts_in_the_past": False,
        "ticks": ["2026-10-25T01:00:00+00:00", "2026-10-26T01:00:00+00:00"],
    }


def test_a_new_schedule_starts_nothing_at_once(said: dict[str, Said]) -> None:
    _, answer = said["others"]["recent"]
    assert answer["problems"] == [] and answer["schedule"]["starts_in_the_past"] is False


def test_airflow_takes_the_settings_of_pods(said: dict[str, Said]) -> None:
    _, answer = said["others"]["pods"]
    assert answer["problems"] == []


def test_airflow_refuses_an_input_of_another_type(said: dict[str, Said]) -> None:
    (problem,) = said["others"]["refused"][1]["problems"]
    assert "Invalid input for param rounds" in problem
