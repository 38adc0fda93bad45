"""A changed build is reported with the changed file, and a step rejects it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from kitaru_compiler import compile_flow
from kitaru_targets import build, registry
from kitaru_targets.verification import image_warnings, verify

from kitaru.errors import StateError

SOURCE = """
from kitaru import checkpoint, flow

@checkpoint
def one() -> int:
    return 1

@flow
def counting() -> int:
    return one()
"""


def compiled(folder: Path, **options: str) -> build.Build:
    (folder / "flow.py").write_text(SOURCE)
    target = registry.get("kubeflow")
    compilation = compile_flow(folder / "flow.py", profile=target.profile)
    return build.write(compilation, target, folder / "build", **options)


def test_a_build_that_nobody_touched(tmp_path: Path) -> None:
    made = compiled(tmp_path)
    found = verify(made.directory)
    assert found.problems == ()
    assert sorted([*found.files, "lock.json"]) == [*made.files]


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "changed": (lambda b: (b / "pipeline.yaml").write_text("x"), "pipeline.yaml changed"),
    "removed": (lambda b: (b / "plan.json").unlink(), "plan.json is missing"),
    "added": (lambda b: (b / "more.py").touch(), "more.py is not of this build"),
    "linked": (lambda b: link(b / "steps.py"), "steps.py is missing"),
    "bundle": (lambda b: (b / "bundle.zip").write_bytes(b"x"), "bundle.zip cannot be read"),
}


def link(path: Path) -> None:
    path.rename(path.parent.parent / path.name)
    path.symlink_to(path.parent.parent / path.name)


@pytest.mark.parametrize("change", CHANGES)
def test_a_build_that_was_changed(change: str, tmp_path: Path) -> None:
    made = compiled(tmp_path)
    act, problem = CHANGES[change]
    act(made.directory)
    assert any(problem in one for one in verify(made.directory).problems)


@pytest.mark.parametrize("name", [n for n in registry.names() if not registry.get(n).runs_whole])
def test_another_image_in_the_lock_is_noticed(name: str, tmp_path: Path) -> None:
    """The remainder of an execution takes the image from there, and no digest is of the lock."""
    (tmp_path / "flow.py").write_text(SOURCE)
    target = registry.get(name)
    compilation = compile_flow(tmp_path / "flow.py", profile=target.profile)
    image = f"registry.example/flows@sha256:{'0' * 64}"
    made = build.write(compilation, target, tmp_path / "build", image=image)
    assert verify(made.directory).problems == ()
    lock = made.directory / "lock.json"
    lock.write_text(lock.read_text().replace("flows@sha256:0", "flows@sha256:1"))
    (problem,) = verify(made.directory).problems
    assert problem == f"the image in lock.json is not the one in {target.document}"


def test_what_is_no_build(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="holds no build"):
        verify(tmp_path)


@pytest.mark.parametrize(
    ("image", "count"), [("", 0), ("r/i:1", 1), ("r/i", 1), ("r/i@sha256:" + "0" * 64, 0)]
)
def test_an_image_by_a_tag_is_doubtful(image: str, count: int) -> None:
    assert len([*image_warnings(image)]) == count


def test_a_step_in_an_image_of_another_build_refuses_to_run(tmp_path: Path) -> None:
    made = compiled(tmp_path, delivery="image", image="r/i:1")
    image = tmp_path / "image"
    with zipfile.ZipFile(made.directory / "bundle.zip") as archive:
        archive.extractall(image)
    digest = build.sha256((made.directory / "plan.json").read_bytes())
    text = made.document.read_text()
    assert "--plan-digest" in text and digest in text
    plan = image / "kitaru_build" / "plan.json"
    plan.write_text(plan.read_text().replace('"doc": ""', '"doc": "moved"'))
    step = ["step", "--plan", str(plan), "--plan-digest", digest, "--step", "one"]
    ran = subprocess.run(
        [sys.executable, "-m", "kitaru.runtime", *step, "--run", "r", "--store", "sqlite:s.db"],
        cwd=image, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 3
    assert "is not the one that the document is compiled from" in ran.stderr
    assert not (image / "s.db").exists()
