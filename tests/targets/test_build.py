"""A build directory has the documented files, and is replaced completely or not at all."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import pytest
from kitaru_targets import build, bundle, delivery, registry

from kitaru.errors import StateError, UsageError

from .conftest import REVIEW, Make


def test_a_build_has_everything_and_a_digest_of_it(make: Make) -> None:
    made = make(REVIEW)
    assert made.files == (
        "DEPLOY.md", "Dockerfile", "bundle.zip", "index.html", "lock.json", "pipeline.yaml",
        "plan.json", "requirements.txt", "sourcemap.json", "steps.py",
    )  # fmt: skip
    assert sorted(path.name for path in made.directory.iterdir()) == sorted(made.files)
    lock = json.loads((made.directory / "lock.json").read_text())
    assert set(lock["files"]) == set(made.files) - {"lock.json"}
    assert build.read(made.directory) == made


def test_a_changed_file_is_noticed(make: Make) -> None:
    made = make(REVIEW)
    made.document.write_text(made.document.read_text() + "\n")
    with pytest.raises(StateError, match=r"pipeline\.yaml changed"):
        build.read(made.directory)
    with pytest.raises(StateError, match="is not a folder"):
        build.read(made.directory / "elsewhere")


def test_the_same_source_gives_the_same_bytes(make: Make) -> None:
    one, two = make(REVIEW, out="one"), make(REVIEW, out="far/away/two")
    for name in one.files:
        assert (one.directory / name).read_bytes() == (two.directory / name).read_bytes()


def test_nothing_names_a_place_or_a_time(make: Make, tmp_path: Path) -> None:
    made = make(REVIEW)
    for name in set(made.files) - {"bundle.zip"}:
        assert str(tmp_path) not in (made.directory / name).read_text()
    with zipfile.ZipFile(made.directory / "bundle.zip") as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        names = archive.namelist()
    # Kitaru's own files are first, because they are compressed once for all bundles.
    assert names == sorted(names, key=lambda name: (not name.startswith("kitaru/"), name))
    assert {"flow.py", "kitaru_build/plan.json", "kitaru_build/steps.py"} <= set(names)
    assert not [name for name in names if name.startswith("kitaru/cli/")]


def test_an_earlier_build_is_replaced_and_nothing_is_left_beside(make: Make) -> None:
    (make(REVIEW).directory / "stale.txt").write_text("old")
    made = make(REVIEW.replace("published", "printed"))
    assert not (made.directory / "stale.txt").exists()
    assert [path.name for path in made.directory.parent.iterdir()].count("out") == 1
    assert not list(made.directory.parent.glob(".out*"))


def test_something_else_is_never_replaced(make: Make, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="did not write"):
        make(REVIEW)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("kind", ["file", "link", "below a file"])
def test_what_cannot_be_written_is_a_usage_error(make: Make, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "place"
    (tmp_path / "real").mkdir()
    if kind == "link":
        place.symlink_to(tmp_path / "real")
    else:
        place.write_text("x")
    with pytest.raises(UsageError, match="place"):
        make(REVIEW, out="place/deep" if kind == "below a file" else "place")
    assert not list((tmp_path / "real").iterdir())


def test_the_source_map_leads_from_every_node_to_its_line(make: Make) -> None:
    made = make(REVIEW)
    found = json.loads((made.directory / "sourcemap.json").read_text())
    lines = REVIEW.splitlines()
    assert found["nodes"]["draft"]["span"]["file"] == "flow.py"
    assert "draft(topic, words)" in lines[found["nodes"]["draft"]["span"]["line"] - 1]
    assert "publish(text)" in lines[found["nodes"]["publish"]["span"]["line"] - 1]
    assert found["groups"]["after-draft"]["span"] == found["nodes"]["draft"]["span"]


def test_an_image_is_needed_where_the_code_is_in_it(make: Make) -> None:
    for way in ("image", "inline"):
        with pytest.raises(UsageError, match="needs an image"):
            make(REVIEW, delivery=way)
    with pytest.raises(UsageError, match="Unknown delivery"):
        make(REVIEW, delivery="carrier pigeon")


def test_a_large_project_does_not_travel_inline(make: Make) -> None:
    noise = "".join(f"# {n**9}{n**5}{n * 7919}\n    " for n in range(2500))
    with pytest.raises(UsageError, match="travel inside"):
        make(REVIEW + "\n    " + noise, delivery="inline", image="registry/runtime:1")


def test_the_image_holds_what_the_delivery_needs(make: Make) -> None:
    image = make(REVIEW, delivery="image", image="registry/review:1")
    assert "COPY bundle.zip" in (image.directory / "Dockerfile").read_text()
    inline = make(REVIEW, delivery="inline", image="registry/runtime:1")
    assert "COPY runtime.zip" in (inline.directory / "Dockerfile").read_text()
    assert "runtime.zip" in inline.files


def test_no_index_is_asked_for_kitaru(make: Make) -> None:
    made = make(REVIEW)
    for name in ("pipeline.yaml", "Dockerfile", "DEPLOY.md"):
        text = (made.directory / name).read_text()
        assert not re.search(r"install.*kitaru\b", text)
    plan = made.plan
    for pin in ("kitaru==1.0", "Kitaru[all]==1.0", "requests", "requests>=2"):
        with pytest.raises(UsageError, match="cannot be required"):
            delivery.requirements(plan.replace(requirements=(pin,)))


def test_a_project_cannot_shadow_the_bundles_own_files() -> None:
    for name in ("kitaru/x.py", "kitaru.py", "kitaru_build/plan.json"):
        with pytest.raises(UsageError, match="name that the bundle needs"):
            bundle.make({name: b""}, {}, with_runtime=True)
    bundle.make({"steps.py": b"", "plan.json": b"", "kitarus.py": b""}, {}, with_runtime=True)


WHOLE = """
    from kitaru import checkpoint, flow

    @checkpoint(memory="100k")
    def small(topic: str) -> str: return topic

    @checkpoint(cpu=4, memory="12Gi")
    def large(topic: str) -> str: return topic

    @flow
    def main(topic: str) -> int:
        return len([locals(), small(topic), large(topic)])
"""
# How each target writes 12 GiB and four cores.
ASKED = {
    "kubeflow": 'resourceMemoryLimit: "12Gi"',
    "vertex": 'resourceMemoryLimit: "12Gi"',
    "sagemaker": '"InstanceType": "ml.m5.xlarge"',
    "azureml": 'instance_type: "Standard_DS3_v2"',
    "airflow": "'memory': '12Gi'",
    "argo": 'memory: "12Gi"',
    "stepfunctions": '"Memory": "12288"',
    "kubernetes": 'memory: "12Gi"',
}


@pytest.mark.parametrize("target", ASKED)
def test_a_flow_that_is_not_cut_asks_for_what_its_checkpoints_need(target: str, make: Make) -> None:
    made = make(WHOLE, target, image="registry/flows:1")
    assert len(made.plan.steps) == 1
    assert ASKED[target] in made.document.read_text()


@pytest.mark.parametrize(
    "pin",
    [
        "a==1\nRUN curl evil", 'a==1" && curl evil "', "--index-url==1", "-r==x", "a==1 # x==",
        "a==$(id)", "a==1\n", "a @ https://evil/a==1", "a==1; python_version>'3'",
    ],
)  # fmt: skip
def test_what_is_no_pin_reaches_no_shell(make: Make, pin: str) -> None:
    plan = make(REVIEW).plan.replace(requirements=(pin,))
    with pytest.raises(UsageError, match="cannot be required by a step"):
        delivery.requirements(plan)


@pytest.mark.parametrize("target", [*registry.names()])
def test_images_run_as_no_root_and_on_a_base_that_can_be_named(make: Make, target: str) -> None:
    lines = (make(REVIEW, target).directory / "Dockerfile").read_text().splitlines()
    assert ("USER 10001" in lines) == (target != "sagemaker")
    assert lines.index("ARG BASE=python:3.11-slim") + 1 == lines.index("FROM ${BASE}")
