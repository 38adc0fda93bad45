"""Decides that Airflow itself reads every DAG file, and takes the inputs that Kitaru gives."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from kitaru_compiler import compile_flow
from kitaru_targets import build, registry
from kitaru_targets.common import dag_file

from tests.field.test_field import FLOWS
from tests.oracles.ask import ask
from tests.oracles.test_flows import CASES
from tests.oracles.test_shapes import PARAMETERS, PROGRAMS
from tests.targets.programs import WIRING, plan

TARGET = registry.get("airflow")


def documents(folder: Path, image: str | None) -> list[tuple[Path, dict[str, Any]]]:
    """Return the DAG file of every case and of every flow of the field, and the inputs of a run."""
    given = {name: (case.file, None, case.inputs) for name, case in CASES.items()}
    for file, flow in {"approval": "article", "batch": "classify_all", "rag": "ask"}.items():
        given[file] = (FLOWS / f"{file}.py", flow, {})
    found = []
    for name, (file, flow, inputs) in given.items():
        compilation = compile_flow(file, flow, profile=TARGET.profile)
        store = "s3://bucket/prefix"
        built = build.write(compilation, TARGET, folder / name, store=store, image=image)
        found.append((built.document, build.parameters.values(built.plan, inputs)))
    return found


@pytest.mark.parametrize("image", [None, "registry/image:1"])
def test_airflow_reads_every_flow(tmp_path: Path, image: str | None) -> None:
    found = documents(tmp_path, image)
    answers = ask("airflow", [{"path": str(p), "conf": conf} for p, conf in found], tmp_path)
    for (path, conf), answer in zip(found, answers, strict=True):
        assert answer["problems"] == []
        document = dag_file.read(path.read_text())
        ids = [task.id for task in document.tasks]
        following = [{after} for _, after in pairwise(ids)] + [set()]
        for task in document.tasks:
            if isinstance(task.options.get("of"), str):
                following[ids.index(task.options["of"])].add(task.id)
        kinds = ["Ask" if task.operator == "Ask" else "Step" for task in document.tasks]
        expected = zip(ids, kinds, map(sorted, following), strict=True)
        assert answer["tasks"] == [list(task) for task in expected]
        defaults = {n: p["default"] for n, p in document.params.items() if "default" in p}
        assert answer["params"] == {**defaults, **conf}
        assert answer["again"], "two readings of one file make one version"


@pytest.mark.parametrize("name", PROGRAMS)
def test_airflow_reads_every_shape(tmp_path: Path, name: str) -> None:
    jobs = []
    for image in ("", "registry/image:1"):
        wiring = replace(WIRING, image=image, environment={"LABEL": "run.sh", "DAY": "{{ ds }}"})
        text = TARGET.emit(plan(PROGRAMS[name], parameters=PARAMETERS), wiring).text
        assert TARGET.validate(text) == []
        path = tmp_path / f"dag{len(image)}.py"
        path.write_text(text)
        jobs.append({"path": str(path), "conf": {"topic": "{{ ds }}", "dry": False}})
    for answer in ask("airflow", jobs, tmp_path):
        assert answer["problems"] == [] and answer["params"]["topic"] == "{{ ds }}"


def test_airflow_takes_a_schedule_and_a_pool(tmp_path: Path) -> None:
    options = {"schedule": "0 7 * * 1", "pool": "models", "namespace": "flows"}
    given = plan(PROGRAMS["line"], parameters=PARAMETERS[1:]).replace(options=options)
    (tmp_path / "dag.py").write_text(TARGET.emit(given, WIRING).text)
    (answer,) = ask("airflow", [{"path": str(tmp_path / "dag.py"), "conf": {}}], tmp_path)
    assert answer["problems"] == [] and answer["schedule"] == "0 7 * * 1"


def test_airflow_refuses_an_input_of_another_type(tmp_path: Path) -> None:
    (tmp_path / "dag.py").write_text(
        TARGET.emit(plan(PROGRAMS["line"], parameters=PARAMETERS), WIRING).text
    )
    job = {"path": str(tmp_path / "dag.py"), "conf": {"topic": "x", "rounds": "many"}}
    with pytest.raises(AssertionError, match="Invalid input for param rounds"):
        ask("airflow", [job], tmp_path)
