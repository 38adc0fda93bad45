"""A name that is written nearly right is suggested, wherever names are given."""

from __future__ import annotations

import pytest

from . import flows
from .conftest import Kitaru

PROJECT = "[tool.kitaru.stacks.prod]\ntarget = 'vertex'\n"


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("runn review.py", "kitaru run"),
        ("replay latest", "kitaru executions replay"),
        ("purge tone", "kitaru memory purge"),
        ("executions lst", "kitaru executions list"),
        ("run review.py --no-inptu", "--no-input"),
        ("run reviw.py", "review.py"),
        ("run review.py:revew", "review"),
        ("run review.py -i tpic=owls", "topic"),
        ("compile review.py:revew --target vertex", "review"),
        ("compile review.py --target vertx", "vertex"),
        ("dry-run review.py --target kubflow", "kubeflow"),
        ("dry-run review.py --target vertex -i tpic=owls", "topic"),
        ("run review.py --stack prd", "prod"),
        ("stack use prd", "prod"),
        ("deploy review.py --target airflow --strikt", "--strict"),
        ("explain review.py:reserch", "research"),
        ("invoke reviw", "review"),
        ("invoke review -i topic=owls --set pyton=python3", "python"),
        ("invoke review@defalt", "default"),
        ("invoke review -i tpic=owls", "topic"),
        ("flow show reviw", "review"),
        ("memory get ton --scope namespace:n", "tone"),
        ("executions lineage latest draf", "draft"),
        ("executions replay latest --from reserch", "research"),
        ("flow tag reviw@v1 stable", "review"),
    ],
)
def test_what_was_meant(command: str, meant: str, project: Kitaru) -> None:
    failed = project(*command.split(), code=None)
    assert failed.code in (1, 2), failed
    shown = failed.err.lower()
    assert (
        f"did you mean {meant}?" in shown
        or f"help: {meant} --help" in shown
        or ("did you mean one of" in shown and f"'{meant}'" in shown)
    ), failed.err


def test_nothing_is_suggested_for_a_name_like_none(project: Kitaru) -> None:
    unlike = ("compile review.py --target xyz", "invoke xyz", "stack use xyz", "run elsewhere.py")
    for command in unlike:
        assert "mean" not in project(*command.split(), code=2).err


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Kitaru:
    kitaru = Kitaru(tmp_path_factory.mktemp("project"))
    kitaru.write("pyproject.toml", PROJECT)
    kitaru.write("review.py", flows.REVIEW)
    kitaru("deploy", "review.py", "--target", "local", "--tag", "default")
    kitaru("run", "review.py", "-i", "topic=owls", "--no-input")
    kitaru("memory", "set", "tone", "calm", "--scope", "namespace:n")
    return kitaru
