"""Ask the vendor's own SDK about a document: what `kitaru verify --with-sdk` reports.

An SDK is never required. It takes seconds to import, prints, and writes to its own folders, so it
runs in a process of its own. Each target has a module `sdk` with the function `problems`, which
imports nothing else of Kitaru: the tests call it in environments that have only the SDK.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from kitaru.errors import StateError, UsageError
from kitaru_targets.airflow import dag_file, module
from kitaru_targets.build import Build

_SECONDS = 600
# By target: the distribution whose word counts, and the module that asks it.
_SDKS = {
    "airflow": ("apache-airflow", "airflow"),
    "argo": ("hera", "argo"),
    "azureml": ("azure-ai-ml", "azureml"),
    "kubeflow": ("kfp", "kfp"),
    "kubernetes": ("kubernetes-validate", "kubernetes"),
    "sagemaker": ("botocore", "sagemaker"),
    "stepfunctions": ("statelint", "stepfunctions"),
    "vertex": ("google-cloud-aiplatform", "vertex"),
}


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a vendor's SDK says of a document; `version` is empty if it is not installed."""

    package: str
    version: str
    problems: tuple[str, ...] = ()


def opinion(build: Build) -> Opinion:
    """Return what the SDK of a target says of the document of a build.

    Raises:
        UsageError: no SDK reads documents of this target.
        StateError: the build contains code that is not Kitaru's, and the SDK would run it.
    """
    target, document = build.target, build.document
    if target.name not in _SDKS:
        raise UsageError(
            f"No SDK reads documents of the target {target.name}.", help="Leave out --with-sdk."
        )
    package, folder = _SDKS[target.name]
    if (foreign := _foreign(build)) is not None:
        raise StateError(
            f"{foreign} is not the one of this version of Kitaru, and {package} would run it.",
            help="Compile again: kitaru compile FLOW --target T",
        )
    try:
        found = version(package)
    except PackageNotFoundError:
        return Opinion(package, "")
    return Opinion(package, found, _asked(folder, document))


def _foreign(build: Build) -> str | None:
    """Return a file that the SDK would run and that Kitaru did not write, None without one.

    Airflow imports a DAG. The digests in the lock are not signed.
    """
    if build.target.name != "airflow":
        return None
    known = {f"{module.name(pods=pods)}.py": module.text(pods=pods) for pods in (False, True)}
    try:
        # A DAG consists of literals, whatever the project's overrides added, and of one import.
        read = dag_file.read(build.read(build.target.document).decode())
    except (ValueError, KeyError, SyntaxError):
        return build.target.document
    if f"{read.module}.py" not in known:
        return build.target.document
    for name in build.files:
        if name in known and build.read(name).decode() != known[name]:
            return name
    return None


def _asked(folder: str, document: Path) -> tuple[str, ...]:
    with tempfile.TemporaryDirectory(prefix="kitaru-sdk-") as work:
        answer = Path(work) / "answer.json"
        # Airflow writes its configuration to its home.
        environment = {**os.environ, "AIRFLOW_HOME": str(Path(work) / "airflow")}
        # With -P, no file of the current folder takes the place of a module.
        words = [sys.executable, "-P", "-m", "kitaru_targets.vendor", folder, document.resolve()]
        try:
            done = subprocess.run(
                [str(word) for word in (*words, answer)],
                env=environment,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return (f"it said nothing within {_SECONDS} seconds",)
        if done.returncode or not answer.exists():
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            return (f"it failed: {''.join(last) or f'exit code {done.returncode}'}",)
        return tuple(json.loads(answer.read_text(encoding="utf-8")))


def main(folder: str, document: str, answer: str) -> None:
    """Write what an SDK says of a document to a file, as a list."""
    problems = import_module(f"kitaru_targets.{folder}.sdk").problems
    found = [*problems(Path(document))]
    Path(answer).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
