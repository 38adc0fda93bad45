"""The vendors' own tools accept our documents, and run them along the right path."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from kitaru_targets import registry
from kitaru_targets.base import ContainerSpec

from kitaru.wire.plan import Parameter, Resources
from tests import forks
from tests.oracles.ask import ask
from tests.targets.programs import Do, If, Program, paths, plan
from tests.targets.programs import Path as Way

FAKE = Path(__file__).with_name("fake_step.py")
RESOURCES = Resources(cpu="500m", memory="2Gi", gpu=1)
PARAMETERS = (
    Parameter("topic", "positional_or_keyword", "str", "str", True, False),
    Parameter("rounds", "positional_or_keyword", "int", "int", False, True, 2),
    Parameter("share", "keyword_only", "float", "float", False, True, 0.5),
    Parameter("dry", "keyword_only", "bool", "bool", False, True, True),
    Parameter("tags", "keyword_only", "json", "list[str]", False, True, ["a", "1e3", "no"]),
    Parameter("late", "keyword_only", "int", "int", False, False),
)
PROGRAMS: dict[str, Program] = {
    "line": (Do("research", retries=2), Do("draft", resources=RESOURCES), Do("draft_2")),
    "waits": (Do("a", wait=True), Do("b", "maybe"), Do("c", wait=True), Do("d")),
    "branch": (Do("a"), If(((Do("b"), Do("c")), (If(((Do("d"),), (Do("e"),))),), ())), Do("f")),
    "ends": (Do("a", "maybe"), If(((Do("b", "always"),), (Do("c"),))), Do("d"), Do("e")),
    "gate": (Do("a"), If(((Do("b", wait=True), Do("c")), ())), Do("d"), Do("e")),
    "deep": (Do("a"), If(((Do("b"), If(((Do("c", "maybe"),), (Do("d"),))), Do("e")), ())), Do("f")),
    "guards": (Do("a"), If(((Do("b"),), (Do("c"),))), If(((Do("d"), Do("e")), ())), Do("f")),
}


def emit(target: str, program: Program, file: Path) -> Path:
    wiring = ContainerSpec(
        "python:3.11-slim", ("python3", str(FAKE)), ("step",), "sqlite:/x.db", {}
    )
    text = registry.get(target).emit(plan(program, parameters=PARAMETERS), wiring).text
    assert registry.get(target).validate(text) == []
    file.write_text(text)
    return file


def test_vertex_takes_every_shape(tmp_path: Path) -> None:
    arguments = {"topic": "owls", "rounds": 3, "late": "7"}
    jobs = [
        {"path": str(emit("vertex", program, tmp_path / f"{name}.yaml")), "arguments": arguments}
        for name, program in PROGRAMS.items()
    ]
    for answer in ask("vertex", jobs):
        assert answer == {"problems": [], "parameters": arguments}


def test_kubeflow_takes_every_shape(tmp_path: Path) -> None:
    jobs = [
        {"path": str(emit("kubeflow", program, tmp_path / f"{name}.yaml")), "arguments": None}
        for name, program in PROGRAMS.items()
    ]
    for answer in ask("kfp", jobs):
        assert answer == {"problems": [], "ran": None}


def test_kfp_local_runs_every_path(tmp_path: Path) -> None:
    runs: list[tuple[Way, Path]] = []
    jobs = []
    for name, program in PROGRAMS.items():
        document = emit("kubeflow", program, tmp_path / f"{name}.yaml")
        for number, path in enumerate(paths(program)):
            script = tmp_path / f"{name}-{number}.json"
            names = [step for step, _ in path]
            script.write_text(json.dumps({"path": names, "last": path[-1][1]}))
            runs.append((path, script))
            arguments = {"topic": "owls"}
            environment = {"PLAYED_PATH": str(script), "PATH": forks.with_forks(os.environ["PATH"])}
            jobs.append({"path": str(document), "arguments": arguments, "environment": environment})
    answers = ask("kfp", jobs)
    assert answers == [{"problems": [], "ran": "succeeded"}] * len(runs)
    for path, script in runs:
        check(path, [json.loads(line) for line in Path(f"{script}.log").read_text().splitlines()])


def check(path: Way, log: list[dict[str, Any]]) -> None:
    assert [entry["step"] for entry in log if entry["on"]] == [step for step, _ in path]
    assert len({entry["run"] for entry in log}) == 1
    assert {entry["hash"] for entry in log} == {"0"}
    assert log[0]["inputs"] == [
        "topic=owls",
        "rounds=2",
        "share=0.5",
        "dry=true",
        'tags=["a", "1e3", "no"]',
        "late=kitaru:default",
    ]
    assert all(entry["inputs"] == [] for entry in log[1:])
