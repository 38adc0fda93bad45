"""Two compilations of the same source give the same bytes, whatever surrounds them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .conftest import ROOT, Installed

ONE = {"PYTHONHASHSEED": "1", "TZ": "Pacific/Auckland", "LC_ALL": "C", "HOME": "/nonexistent"}
ONE |= {"AWS_SECRET_ACCESS_KEY": "not-to-be-found", "MY_VARIABLE": "nor this"}
OTHER = {"PYTHONHASHSEED": "4242", "TZ": "America/Lima", "LC_ALL": "C.UTF-8"}


def compiled(
    installed: Installed, folder: Path, file: str, target: str, environ: dict[str, str]
) -> dict[str, bytes]:
    """Copy the examples to `folder`, compile one there, return every file that came out."""
    shutil.copytree(ROOT / "examples", folder)
    for path in folder.rglob("*"):
        path.touch()
    options = ["--target", target, "-o", "out", "--json"]
    done = installed.kitaru("compile", file, *options, cwd=folder, environ=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    out = folder / "out"
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "target", ["argo", "kubeflow", "kubernetes", "vertex", "sagemaker", "azureml", "stepfunctions"]
)
@pytest.mark.parametrize("file", ["review_flow.py", "triage.py", "research_agent.py"])
def test_the_same_bytes(installed: Installed, tmp_path: Path, file: str, target: str) -> None:
    one = compiled(installed, tmp_path / "one", file, target, ONE)
    other = compiled(installed, tmp_path / "far" / "away" / "two", file, target, OTHER)
    assert len(one) >= 7
    assert sorted(one) == sorted(other)
    assert [name for name in one if one[name] != other[name]] == []


def test_another_source_gives_other_bytes(installed: Installed, tmp_path: Path) -> None:
    one = compiled(installed, tmp_path / "one", "review_flow.py", "vertex", ONE)
    other = compiled(installed, tmp_path / "two", "triage.py", "vertex", ONE)
    for name in ("pipeline.yaml", "plan.json", "steps.py", "bundle.zip", "lock.json"):
        assert one[f"review_flow/vertex/{name}"] != other[f"triage/vertex/{name}"]
