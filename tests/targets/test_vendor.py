"""`kitaru verify --with-sdk` asks the vendor's SDK, which may be missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kitaru_targets import build, lock, vendor

from kitaru.errors import StateError, UsageError
from kitaru.ops.verify_build import verify_build
from kitaru.wire.canonical import sha256
from kitaru.wire.plan import LOCK
from tests.cli.conftest import Kitaru

from .conftest import REVIEW, Make


def test_the_version_that_accepts_a_document_is_shown(make: Make, tmp_path: Path) -> None:
    pytest.importorskip("botocore")
    made = make(REVIEW, "sagemaker")
    done = Kitaru(tmp_path)("verify", str(made.directory), "--with-sdk")
    assert "botocore" in done.out and "accepts the document" in done.out
    found = verify_build(made.directory, with_sdk=True).sdk
    assert found and found.version and found.problems == ()


def test_a_missing_sdk_is_no_error(make: Make, tmp_path: Path) -> None:
    made = make(REVIEW, "argo")
    command = ("verify", str(made.directory))
    shown, described, plain = Kitaru(tmp_path).each(
        [[*command, "--with-sdk"], [*command, "--with-sdk", "--json"], [*command, "--json"]]
    )
    assert shown.code == 0 and "hera was not asked, because it is not" in shown.err
    assert described.document["sdk"] == {"package": "hera", "version": None}
    assert plain.document["sdk"] is None


def test_what_an_sdk_refuses_is_shown(make: Make, tmp_path: Path) -> None:
    pytest.importorskip("botocore")
    made = make(REVIEW, "sagemaker")
    document = made.document.read_text()
    changed = document.replace('"InstanceCount": 1', '"InstanceCount": 0')
    assert changed != document
    relock(made, made.document.name, changed)
    found = verify_build(made.directory, with_sdk=True).sdk
    assert found and any("InstanceCount" in problem for problem in found.problems)
    done = Kitaru(tmp_path)("verify", str(made.directory), "--with-sdk", code=1)
    assert "does not accept" in done.err and "InstanceCount" in done.err


def test_no_sdk_runs_code_that_kitaru_did_not_write(make: Make) -> None:
    made = make(REVIEW, "airflow")
    (name,) = [one for one in made.files if one.startswith("kitaru_airflow_")]
    relock(made, name, made.read(name).decode() + "import os\n")
    with pytest.raises(StateError, match="is not the one of this version of Kitaru"):
        verify_build(made.directory, with_sdk=True)


def test_a_changed_build_is_not_shown_to_an_sdk(make: Make) -> None:
    made = make(REVIEW, "sagemaker")
    made.document.write_text("{}")
    found = verify_build(made.directory, with_sdk=True)
    assert found.problems and found.sdk is None


def test_a_target_without_an_sdk_says_so(make: Make) -> None:
    with pytest.raises(UsageError, match="No SDK reads documents of the target local"):
        verify_build(make(REVIEW, "local").directory, with_sdk=True)


def test_an_sdk_that_fails_is_no_approval(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vendor._SDKS, "sagemaker", ("pytest", "no_such_target"))
    (problem,) = vendor.opinion(make(REVIEW, "sagemaker")).problems
    assert "it failed" in problem and "no_such_target" in problem


def relock(made: build.Build, name: str, text: str) -> None:
    """Change a file as an attacker does, with its digest."""
    (made.directory / name).write_text(text)
    path = made.directory / LOCK
    document = json.loads(path.read_text())
    document["files"][name] = sha256(text.encode())
    path.write_text(json.dumps(document))
    assert lock.read(made.directory).files[name] == sha256(text.encode())
