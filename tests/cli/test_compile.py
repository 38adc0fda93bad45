"""Checking and compiling from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from . import flows
from .conftest import Kitaru

LOUD = "raise SystemExit('imported')\n"
LOOP = """\
from kitaru import checkpoint, flow


@checkpoint
def good(n: int) -> bool:
    return n > 2


@flow
def loop(n: int) -> int:
    while not good(n):
        n += 1
    return n
"""


def test_compile_writes_and_says_what(kitaru: Kitaru) -> None:
    kitaru.write("review.py", flows.REVIEW)
    document = kitaru("compile", "review.py", "--target", "vertex", "--json").document
    assert document == {
        "flow": "review",
        "target": "vertex",
        "directory": "build/review/vertex",
        "document": "build/review/vertex/pipeline.yaml",
        "steps": ["research", "draft"],
        "checkpoints": ["research", "draft"],
        "starts": {
            "steps": 2,
            "calls": 2,
            "seconds": [120, 240],
            "seconds_of_calls": [120, 240],
            "idle": 0,
        },
        "data": {},
        "diagnostics": [],
        "warnings": [
            "The store sqlite:.kitaru/kitaru.db (default) is on this machine: containers cannot "
            'reach it. Set store = "gs://BUCKET/PREFIX" in [tool.kitaru] of pyproject.toml, or '
            "pass --store gs://BUCKET/PREFIX."
        ],
    }
    directory = kitaru.folder / document["directory"]
    for name in ("pipeline.yaml", "plan.json", "steps.py", "lock.json", "bundle.zip", "DEPLOY.md"):
        assert (directory / name).is_file()


def test_compile_shows_the_outline_and_the_next_command(kitaru: Kitaru) -> None:
    kitaru.write("review.py", flows.REVIEW)
    out = kitaru("compile", "review.py", "--target", "kubeflow", "-o", "out").out
    assert out == (
        "review for kubeflow: 2 steps, 2 checkpoints, 1 wait\n"
        "  research      review.py:26\n"
        "  draft         review.py:26\n"
        "  wait approve  review.py:27\n"
        "\n"
        "wrote out/review/kubeflow/\n"
        "starts   2 containers in a row, about 20–40 s\n"
        "deploy   see out/review/kubeflow/DEPLOY.md\n"
        "try it   kitaru dry-run review.py --target kubeflow --input topic=…\n"
    )


def test_compile_imports_nothing(kitaru: Kitaru) -> None:
    kitaru.write("review.py", flows.REVIEW + LOUD)
    kitaru("compile", "review.py", "--target", "vertex")
    assert kitaru("check", "review.py").out == "review.py: nothing to report\n"


def test_findings_are_named_from_where_the_reader_stands(kitaru: Kitaru) -> None:
    kitaru.write("pack/__init__.py", "")
    kitaru.write("pack/loop.py", LOOP)
    (finding,) = kitaru("check", "pack/loop.py", "--json").document["diagnostics"]
    expected = {
        "code": "KIT310",
        "severity": "note",
        "file": "pack/loop.py",
        "line": 11,
        "column": 5,
    }
    assert expected.items() <= finding.items()
    assert finding["message"] and finding["help"]
    text = kitaru("check", "pack.loop:loop").err
    assert " --> pack/loop.py:11:5\n" in text
    assert "11 |     while not good(n):\n   |     ^^^^^^^^^^^^^^^^^^" in text
    assert text.endswith("1 note\n")


def test_strict_makes_a_note_an_error_and_writes_nothing(kitaru: Kitaru) -> None:
    kitaru.write("loop.py", LOOP)
    kitaru("check", "loop.py")
    kitaru("check", "loop.py", "--strict", code=1)
    kitaru("compile", "loop.py", "--target", "vertex", "--strict", code=1)
    assert not (kitaru.folder / "build").exists()
    kitaru("compile", "loop.py", "--target", "vertex")
    assert (kitaru.folder / "build").exists()


@pytest.mark.parametrize(
    ("source", "name", "code"),
    [
        ("def broken(:\n", "", "KIT101"),
        ("x = 1\n", "", "KIT103"),
        (flows.REVIEW, ":other", "KIT104"),
    ],
)
def test_check_finds_what_is_wrong(source: str, name: str, code: str, kitaru: Kitaru) -> None:
    kitaru.write("flow.py", source)
    done = kitaru("check", f"flow.py{name}", "--json", code=1)
    assert [d["code"] for d in done.document["diagnostics"]] == [code]
    assert f"error[{code}]" in kitaru("check", f"flow.py{name}", code=1).err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["review.py", "--target", "verteks"], "verteks"),
        (["absent.py", "--target", "vertex"], "absent.py does not exist"),
        (["review.py", "--target", "vertex", "-o", "file"], "file"),
    ],
)
def test_what_cannot_be_compiled(arguments: list[str], message: str, kitaru: Kitaru) -> None:
    kitaru.write("review.py", flows.REVIEW)
    kitaru.write("file", "")
    error = kitaru("compile", *arguments, "--json", code=2).error
    assert message in error["message"]
    assert error["help"]


def test_targets_are_listed(kitaru: Kitaru) -> None:
    document = kitaru("target", "list", "--json").document
    assert document["count"] == len(document["items"])
    names = [item["name"] for item in document["items"]]
    assert {"airflow", "kubeflow", "vertex"} <= set(names)
    assert document["items"][0]["capabilities"][0]["how"]
    lines = kitaru("target", "list").out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == names


def test_every_target_is_compiled_for_in_one_command(kitaru: Kitaru) -> None:
    kitaru.write("review.py", flows.REVIEW)
    names = [item["name"] for item in kitaru("target", "list", "--json").document["items"]]
    document = kitaru("compile", "review.py", "--target", "all", "--json").document
    assert [item["target"] for item in document["items"]] == names
    assert (document["count"], document["refused"]) == (len(names), {})
    assert all((kitaru.folder / item["document"]).is_file() for item in document["items"])
    inline = ["--delivery", "inline", "--image", "registry/image:1"]
    done = kitaru("compile", "review.py", "--target", "all", *inline, "--json", code=1)
    assert list(done.document["refused"]) == ["sagemaker"]
    assert "sagemaker" in kitaru("compile", "review.py", "--target", "all", *inline, code=1).out


def test_what_holds_for_every_target_is_said_once(kitaru: Kitaru) -> None:
    kitaru.write("review.py", flows.REVIEW.replace("review(topic: str)", "review(topic=[0])"))
    assert kitaru("compile", "review.py", "--target", "all").err.count("warning[KIT206]") == 1
    strict = kitaru("compile", "review.py", "--target", "all", "-o", "out", "--strict", code=1)
    assert "nothing was written" in strict.err and not (kitaru.folder / "out").exists()
    kitaru.write("broken.py", "def (:")
    assert "KIT101" in kitaru("compile", "broken.py", "--target", "all", code=1).err


def test_a_bundle_is_put_where_its_steps_fetch_it(kitaru: Kitaru) -> None:
    kitaru.write("review.py", flows.REVIEW)
    kitaru("compile", "review.py", "--target", "airflow")
    command = ["store", "upload", "build/review/airflow", "--store", "sqlite:x.db"]
    document = kitaru(*command, "--json").document
    lock = json.loads((kitaru.folder / "build/review/airflow/lock.json").read_text())
    assert document["bundle"] == lock["files"]["bundle.zip"]
    assert document["store"] in kitaru(*command).out
    assert kitaru("store", "upload", ".", "--json", code=2).error["help"]


def test_a_store_is_checked(kitaru: Kitaru) -> None:
    document = kitaru("store", "check", "--json").document
    assert document["ok"] is True
    assert "a second create is refused" in [check["name"] for check in document["checks"]]
    assert kitaru("store", "check", "--store", "sqlite:x.db").out.startswith("good  sqlite:x.db")
    assert kitaru("store", "check", "--store", "ftp:x", "--json", code=2).error


def test_an_image_is_configured_or_given(kitaru: Kitaru) -> None:
    kitaru.write("review.py", flows.REVIEW)
    kitaru.write("pyproject.toml", '[tool.kitaru]\nimage = "configured:1"\n')

    def image(*arguments: str) -> str:
        kitaru("compile", "review.py", "--target", "vertex", *arguments)
        lock = Path("build/review/vertex/lock.json")
        return str(json.loads((kitaru.folder / lock).read_text())["image"])

    assert image() == "configured:1"
    assert image("--image", "given:2") == "given:2"


def test_explain_adds_the_explanation(kitaru: Kitaru) -> None:
    kitaru.write("loop.py", LOOP)
    out = kitaru("compile", "loop.py", "--target", "kubeflow", "--explain").out
    assert "\nloop for Kubeflow Pipelines: 1 container, about 10–20 s\n" in out
    assert "\nKIT310 loop.py:11-12 `while` depends on results\n" in out
    assert "\n    -    while not good(n):\n    +    for _ in range(3):\n" in out
    document = kitaru("compile", "loop.py", "-t", "kubeflow", "--explain", "--json").document
    (part,) = document["explanation"]["parts"]
    assert (part["code"], part["kind"], part["span"]["line"]) == ("KIT310", "region", 11)
    assert part["proposal"]["cost"] == {"containers": 3, "seconds": [30, 60]}
    assert document["explanation"]["cost"] == {"containers": 1, "seconds": [10, 20]}


def test_explain_for_every_target_is_a_table_of_costs(kitaru: Kitaru) -> None:
    kitaru.write("loop.py", LOOP)
    rows = kitaru("compile", "loop.py", "--target", "all", "--explain").out.splitlines()[-3:]
    assert [row.split()[:2] for row in rows] == [
        ["airflow", "argo"],
        ["containers", "now"],
        ["loop.py:11-12", "KIT310"],
    ]
    every = kitaru("compile", "loop.py", "--target", "all", "--explain", "--json").document
    assert all(item["explanation"]["parts"] for item in every["items"])


def test_explain_names_files_from_the_working_directory(kitaru: Kitaru) -> None:
    kitaru.write("flows/loop.py", LOOP)
    out = kitaru("compile", "flows/loop.py", "-t", "vertex", "--explain").out
    assert "\n    --- flows/loop.py\n" in out and " flows/loop.py:11-12 " in out
