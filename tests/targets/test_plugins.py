"""A target of another distribution: found by its entry point, loaded only when it is named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given, settings
from kitaru_targets import registry
from kitaru_targets.common import parameters

from kitaru.client import KitaruClient
from kitaru.errors import EnvironmentFailure, UsageError
from kitaru.wire.plan import Parameter

from .conftest import REVIEW
from .plugin.kitaru_shell import TARGET
from .plugin.kitaru_shell.script import read
from .programs import WIRING, Do, If, plan
from .test_injection import TEXT

PLUGIN = Path(__file__).with_name("plugin")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the plug-in is installed as its wheel would be."""
    made = tmp_path_factory.mktemp("plugin")
    shutil.copytree(PLUGIN, made / "source", ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(made)]
    subprocess.run(build, cwd=made / "source", capture_output=True, check=True)
    with zipfile.ZipFile(next(made.glob("*.whl"))) as wheel:
        wheel.extractall(made / "site")
    return made / "site"


def kitaru(site: Path, folder: Path, *words: str) -> Any:
    """Run a command where the plug-in is installed; return its document."""
    path = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(site)])
    command = [sys.executable, "-m", "kitaru", *words, "--json"]
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_a_sixth_target_lists_compiles_and_runs(site: Path, tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(dedent(REVIEW))
    listed = kitaru(site, tmp_path, "target", "list")
    assert listed["installed"] == [
        {"name": "shell", "distribution": "kitaru-shell", "version": "1.0"}
    ]
    store = f"sqlite:{tmp_path / 'store.db'}"
    given = ["flow.py", "--target", "shell", "--store", store]
    dry = kitaru(
        site, tmp_path, "dry-run", *given, "--input", "topic=owls", "--answer", "approve=true"
    )
    assert (dry["status"], dry["result"]) == ("completed", "published: owls owls")
    compiled = kitaru(site, tmp_path, "compile", *given)
    assert compiled["target"] == "shell"
    build = next(tmp_path.glob("build/*/shell"))
    assert "sh run.sh" in (build / "DEPLOY.md").read_text()
    # A shell does the same as the dry run: up to the wait, and the remaining steps after it.
    kitaru(site, tmp_path, "store", "upload", str(build), "--store", store)
    environment = {**os.environ, "KITARU_INPUT_topic": "kites", "KITARU_RUN": "by-hand"}
    subprocess.run(["sh", str(build / "run.sh")], env=environment, capture_output=True, check=True)
    assert KitaruClient(store).executions.get("by-hand").status == "waiting"
    command = ["executions", "input", "by-hand", "--value", "true", "--store", store]
    kitaru(site, tmp_path, *command)
    subprocess.run(["sh", str(build / "run.sh")], env=environment, capture_output=True, check=True)
    assert KitaruClient(store).executions.get("by-hand").result == "published: kites kites"


PROGRAM = (Do("a", "maybe"), If(((Do("b", wait=True),), (Do("c"),))), Do("d"))


@settings(deadline=None, max_examples=60)
@given(text=TEXT)
def test_a_text_of_the_users_is_one_word_of_the_script(text: str) -> None:
    default = Parameter("topic", "keyword_only", "str", "str", False, True, text)
    made = parameters.portable(plan(PROGRAM, parameters=(default,)), TARGET.transport)
    wiring = replace(WIRING, environment={"LABEL": text}, store=f"s3://b/{text}", leading=(text,))
    written = TARGET.emit(made, wiring).text
    assert TARGET.validate(written) == []
    script = read(written)
    assert f"LABEL={text}" in script.command and script.command[-1] == text
    assert (script.steps, script.store) == (("a", "b", "c", "d"), f"s3://b/{text}")
    assert TARGET.validate(written.replace("set -eu", "set -eux")) != []


# Whom it is loaded from


def distribution(folder: Path, name: str, target: str, code: str) -> None:
    """Install a distribution that says it brings a target."""
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text(f"[kitaru.targets]\n{target} = {module}:TARGET\n")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_nothing_is_loaded_that_nobody_named(folder: Path) -> None:
    spying = f"open({str(folder / 'loaded')!r}, 'w').close()\nTARGET = None\n"
    for name, target in (("spy", "spy"), ("impostor", "airflow")):
        distribution(folder, f"kitaru-{name}", target, spying)
    with pytest.raises(UsageError, match="Unknown target 'other'") as raised:
        registry.get("other")
    assert "spy" in raised.value.help
    assert registry.get("airflow").title == "Apache Airflow"
    assert not (folder / "loaded").exists()
    with pytest.raises(EnvironmentFailure, match=r"kitaru-spy 2\.1 cannot be used"):
        registry.get("spy")
    assert (folder / "loaded").exists()


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import not_there", "ModuleNotFoundError: No module named 'not_there'"),
        ("TARGET = 7", "is no kitaru_targets.base.Target"),
        ("raise SystemError('no')", "SystemError: no"),
        ("from tests.targets.plugin.kitaru_shell import TARGET", "its target is called 'shell'"),
    ],
)
def test_a_broken_one_is_told_with_its_distribution(folder: Path, code: str, why: str) -> None:
    distribution(folder, f"kitaru-bad{abs(hash(code))}", "bad", code)
    with pytest.raises(EnvironmentFailure) as raised:
        registry.get("bad")
    assert why in str(raised.value) and "2.1" in str(raised.value)
    assert "pip install --upgrade kitaru-bad" in raised.value.help


def test_two_of_one_name_are_refused(folder: Path) -> None:
    for name in ("kitaru-one", "kitaru-two"):
        distribution(folder, name, "twice", "TARGET = None")
    with pytest.raises(UsageError, match=r"kitaru-one 2\.1, kitaru-two 2\.1"):
        registry.get("twice")
