"""Run in its own environment: report how the tools of Kubeflow Pipelines read documents.

A job has the `path` of a document, and `arguments` to run it with in `kfp.local`, or null to only
load it, and `environment` variables for the run. An answer is {"problems", "ran"}.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import celpy
import yaml
from kfp import components, local
from kfp.local import subprocess_task_handler
from kfp.pipeline_spec import pipeline_spec_pb2  # noqa: F401 - imported once, for all requests
from ruamel.yaml import YAML
from serving import product, serve


def main() -> None:
    warnings.simplefilter("ignore")
    # The runner refuses containers without the KFP executor, and starts the others with its own
    # Python instead of that of the container; everything else stays as it is.
    handler = subprocess_task_handler.SubprocessTaskHandler
    handler.validate_not_container_component = lambda self, command: None
    subprocess_task_handler.replace_python_executable = lambda command, own: command
    serve(answer)


def answer(job: dict[str, Any]) -> dict[str, Any]:
    problems: list[str] = []
    if job["arguments"] is None:
        problems += product("kfp").problems(Path(job["path"]))
    for check in (conditions, read_alike) if job["arguments"] is None else ():
        try:
            check(Path(job["path"]))
        except Exception as error:
            problems.append(f"{check.__name__}: {error!r}")
    ran = None
    if job["arguments"] is not None:
        os.environ.update(job["environment"])
        ran = run(job["path"], job["arguments"])
    return {"problems": problems, "ran": ran}


def conditions(path: Path) -> None:
    spec = yaml.safe_load(path.read_text())
    for dag in (spec["root"], *spec["components"].values()):
        for task in dag.get("dag", {}).get("tasks", {}).values():
            if "triggerPolicy" in task:
                condition(task)


def condition(task: dict[str, Any]) -> None:
    """Evaluate it as the driver does: with the task's own inputs, to a boolean."""
    environment = celpy.Environment()
    program = environment.program(environment.compile(task["triggerPolicy"]["condition"]))
    names = task["inputs"]["parameters"]
    given = celpy.json_to_cel({"parameter_values": dict.fromkeys(names, "go")})
    result = program.evaluate({"inputs": given})
    assert isinstance(result, (bool, celpy.celtypes.BoolType)), result


def read_alike(path: Path) -> None:
    text = path.read_text()
    assert YAML(typ="safe", pure=True).load(text) == yaml.safe_load(text)


def run(path: str, arguments: dict[str, Any]) -> str:
    with tempfile.TemporaryDirectory() as root:
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=root)
        try:
            components.load_component_from_file(path)(**arguments)
        except RuntimeError as error:
            return str(error)
    return "succeeded"


if __name__ == "__main__":
    main()
