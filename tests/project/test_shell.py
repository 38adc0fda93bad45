"""What a forge, an editor and a commit hook run is what `dev.py` and CONTRIBUTING.md name."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import yaml

import dev
from kitaru.version import VERSION

from .conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())


def test_the_workflow_runs_the_commands_of_contributors() -> None:
    steps = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]
    assert [step["run"] for step in steps if "run" in step] == ["python3 dev.py check", ".ci/run"]
    assert "check" in dev.COMMANDS and "dev.py test" in (ROOT / ".ci" / "run").read_text()


def test_the_workflow_tries_every_supported_python() -> None:
    supported = [f"3.{minor}" for minor in range(dev.OLDEST[1], dev.NEWEST[1] + 1)]
    for job in WORKFLOW["jobs"].values():
        assert job["strategy"]["matrix"]["python"] == supported


def test_classifiers_name_the_versions_that_have_to_pass() -> None:
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    tried = WORKFLOW["jobs"]["test"]["strategy"]["matrix"]["python"]
    may_fail = re.findall(r"3\.\d+", WORKFLOW["jobs"]["test"]["continue-on-error"])
    assert named == [version for version in tried if version not in may_fail]
    assert PROJECT["project"]["requires-python"] == f">={named[0]}"


def test_the_version_is_in_one_place() -> None:
    assert "version" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "kitaru/version.py"
    assert f"\n## {VERSION}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_commit_hooks_are_the_checks() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    programs = {hook["entry"].split()[0] for hook in hooks}
    assert programs == {f".venv/bin/{command[0]}" for command in dev.CHECKS}
    assert {repo["repo"] for repo in config["repos"]} == {"local"}


def test_the_quick_tests_exist() -> None:
    assert [path for path in dev.QUICK if not (ROOT / path).exists()] == []
