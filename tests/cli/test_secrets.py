"""`kitaru secrets`, and that no command shows a secret that it comes across."""

from __future__ import annotations

import pytest
from kitaru_targets import registry
from kitaru_targets.common import variables

from kitaru.errors import UsageError

from . import flows
from .conftest import Kitaru

VALUE = "q7Zp2LxV9cWt4Rb8"
LEAKING = """\
import os

import kitaru
from kitaru import checkpoint, flow


@checkpoint
def tell() -> str:
    return "told"


@checkpoint
def leak(key: str) -> str:
    raise ValueError(f"denied for {key} and {os.environ['SERVICE_API_KEY']}")


@flow
def leaking(key: str) -> str:
    tell()
    kitaru.wait(name="sure", question=f"use {os.environ['SERVICE_API_KEY']}?")
    return leak(key)
"""
# Known by its shape, and put together here, so that this file holds none.
SHAPED = "sk-" + "m3Kd8HjT5sNa1Yc6" * 2


def test_set_list_and_delete(kitaru: Kitaru) -> None:
    kitaru("secrets", "set", "SERVICE_KEY", stdin=f"{VALUE}\n")
    kitaru.write("pyproject.toml", '[tool.kitaru.secrets]\nOTHER_KEY = "aws:prod/other"\n')
    listed = kitaru("secrets", "list", "--json").document
    assert listed["items"] == [
        {"name": "OTHER_KEY", "found": "aws:prod/other"},
        {"name": "SERVICE_KEY", "found": "kept for this user"},
    ]
    assert VALUE not in kitaru("secrets", "list", SERVICE_KEY="other-value").out
    kitaru("secrets", "delete", "SERVICE_KEY")
    assert "kitaru secrets list" in kitaru("secrets", "delete", "SERVICE_KEY", code=2).err
    assert "empty" in kitaru("secrets", "set", "SERVICE_KEY", "--json", code=2).error["message"]


def test_pipelines_hold_the_reference_alone(kitaru: Kitaru) -> None:
    kitaru.write("review.py", flows.REVIEW)
    kitaru.write("pyproject.toml", '[tool.kitaru.secrets]\nSERVICE_KEY = "aws:prod/key"\n')
    kitaru("compile", "review.py", "-t", "all", SERVICE_KEY=VALUE, SERVICE_API_KEY=VALUE)
    folders = [*(kitaru.folder / "build" / "review").iterdir()]
    assert len(folders) == len(registry.names())
    for folder in folders:
        assert "aws:prod/key" in (folder / "plan.json").read_text()
        assert "boto3==" in (folder / "lock.json").read_text()
        assert "`SERVICE_KEY` from `aws:prod/key`" in (folder / "DEPLOY.md").read_text()
        assert not [p for p in folder.iterdir() if VALUE.encode() in p.read_bytes()]


@pytest.mark.parametrize(
    ("name", "value"), [("API_KEY", "aws:x"), ("NOTE", SHAPED), ("URL", "x://a:bc@d")]
)
def test_a_variable_that_is_a_secret_is_no_plain_variable(name: str, value: str) -> None:
    with pytest.raises(UsageError, match="holds a secret") as raised:
        variables.environment({name: value})
    assert f'kitaru.secret("{name}")' in raised.value.help
    assert value not in str(raised.value).replace('"aws:…"', "")


def test_no_command_shows_a_secret(kitaru: Kitaru) -> None:
    kitaru.write("leaking.py", LEAKING)
    key = {"SERVICE_API_KEY": VALUE}
    ran = kitaru("run", "leaking.py", "--input", f"key={SHAPED}", "--json", **key)
    exec_id = ran.document["exec_id"]
    asked = kitaru("executions", "get", exec_id, "--json", **key)
    assert asked.document["waits"][0]["question"] == "use ***?"
    answered = kitaru("executions", "input", exec_id, "--value", "true", code=1, **key)
    assert "denied for *** and ***" in answered.err + answered.out
    commands = [
        ("executions", "get", exec_id, "--json"),
        ("executions", "list"),
        ("executions", "diff", exec_id, exec_id),
        ("executions", "lineage", exec_id),
        ("run", "leaking.py", "--input", f"{SHAPED}=1", "--json"),
        ("run", f"{SHAPED}.py"),
        ("executions", "get", SHAPED),
        ("graph", "leaking.py"),
    ]
    for done in [ran, asked, answered, *kitaru.each(commands)]:
        assert VALUE not in done.out + done.err and SHAPED not in done.out + done.err, done
