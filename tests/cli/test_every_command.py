"""Every command there is: its help, one JSON document, errors as JSON, and what it ends with.

A command that is added and not named here fails the first test.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import click
import pytest

from kitaru.cli.app import cli
from tests.builders import Builders
from tests.notifications.receivers import receiving
from tests.waiting import wait_for_file

from . import flows
from .conftest import Done, Kitaru

TOPIC = ("--input", "topic=tea")
VERTEX = ("--target", "vertex")
# By command: how it succeeds in the prepared project, and how it fails there with 2.
# `EXEC` is an execution that is completed, `WAITS` one that waits, `FAILED` one that failed.
COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "init": (("fresh",), ("made",)),
    "check": (("review.py",), ("gone.py",)),
    "migrate": (("zenml", "theirs.py"), ("zenml", "review.py")),
    "explain": (("KIT101",), ("KIT999x",)),
    "run": (("review.py", *TOPIC, "--no-input"), ("review.py",)),
    "executions list": ((), ("--limit", "0")),
    "executions get": (("EXEC",), ("absent",)),
    "executions signal": (("WAITS", "steer", "--value", "1"), ("EXEC", "no name", "--value", "1")),
    "executions input": (("WAITS", "--value", "true"), ("EXEC", "--value", "true", "--abort")),
    "executions resume": (("EXEC",), ("absent",)),
    "executions retry": (("FAILED",), ("EXEC",)),
    "executions cancel": (("CANCELLED",), ("EXEC",)),
    "executions replay": (("EXEC", "--from", "draft"), ("EXEC", "--from", "absent")),
    "executions diff": (("EXEC", "EXEC"), ("EXEC", "absent")),
    "executions lineage": (("EXEC",), ("EXEC", "absent")),
    "executions calls": (("EXEC",), ("EXEC", "absent")),
    "evaluate": (("--with", "judge.py", "--limit", "1"), ("--with", "gone.py")),
    "executions export": (("EXEC", "-o", "run.json"), ("absent",)),
    "executions import": (("run.json",), ("review.py",)),
    "executions logs": (("EXEC",), ("absent",)),
    "artifacts list": (("EXEC",), ("absent",)),
    "artifacts get": (("EXEC", "draft"), ("EXEC", "absent")),
    "memory set": (("k", "2", "--scope", "namespace:n"), ("k", "2", "--scope", "nowhere:n")),
    "memory get": (("key", "--scope", "namespace:n"), ("gone", "--scope", "namespace:n")),
    "memory list": (("--scope", "namespace:n"), ("--scope", "planet:x")),
    "memory history": (("key", "--scope", "namespace:n"), ("é", "--scope", "namespace:n")),
    "memory delete": (("k", "--scope", "namespace:n"), ("é", "--scope", "namespace:n")),
    "memory purge": (("k", "--scope", "namespace:n"), ("é", "--scope", "namespace:n")),
    "memory compact": (("key", "--scope", "namespace:n"), ("gone", "--scope", "namespace:n")),
    "memory scope list": ((), ("--gone",)),
    "dispatcher run": (("--once",), ("--processes", "x")),
    "dispatcher status": ((), ("--gone",)),
    "compile": (("review.py", *VERTEX, "-o", "again"), ("review.py", "--target", "gone")),
    "dry-run": (("review.py", *VERTEX, *TOPIC, "--no-input"), ("review.py", *VERTEX)),
    "graph": (("review.py",), ("review.py", "--format", "gone")),
    "diff": (("build/review/vertex", "review.py"), ("review.py", "review.py")),
    "verify": (("build/review/vertex",), ("gone",)),
    "build": (("build/review/vertex", "--image", "team/flows:1"), ("build/review/vertex",)),
    "target list": ((), ("--gone",)),
    "deploy": (("review.py", *VERTEX), ("review.py", *VERTEX, "--tag", "v1")),
    "invoke": (("review", *TOPIC, "--local", "--no-input"), ("gone",)),
    "flow list": ((), ("--gone",)),
    "flow show": (("review",), ("gone",)),
    "flow tag": (("review@v1", "stable"), ("review", "stable")),
    "flow untag": (("review", "stable"), ("review", "default")),
    "events send": (("invoice.paid", "--data", '{"order": 7}'), ("invoice.paid", "--data", "{")),
    "events list": ((), ("--name", "a b")),
    "events triggers": ((), ("--fow", "a")),
    "events get": (("invoice.paid", "first"), ("invoice.paid", "gone")),
    "schedule create": (
        ("review", "--cron", "0 2 * * *", *TOPIC, "--id", "late"),
        ("review", "--cron", "61 * * * *", *TOPIC),
    ),
    "schedule list": ((), ("--gone",)),
    "schedule get": (("nightly",), ("gone",)),
    "schedule next": (("nightly", "--count", "2"), ("gone",)),
    "schedule pause": (("nightly",), ("gone",)),
    "schedule resume": (("nightly",), ("gone",)),
    "schedule trigger": (("nightly",), ("gone",)),
    "schedule delete": (("early",), ("gone",)),
    "model list": ((), ("--stack", "gone")),
    "model usage": (("--since", "7d"), ("--since", "soon")),
    "model register": (("slow", "--model", "openai/gpt-x"), ("slow",)),
    "stack create": (("made", "--store", "sqlite:made.db"), ("dev",)),
    "stack current": ((), ("--gone",)),
    "stack delete": (("made",), ("dev",)),
    "stack list": ((), ("--gone",)),
    "stack show": ((), ("--stack", "gone")),
    "stack use": (("dev",), ("gone",)),
    "store check": ((), ("nonsense:",)),
    "store backup": (("sqlite:copied.db",), ("sqlite:.kitaru/kitaru.db",)),
    "store restore": (("sqlite:.kitaru/kitaru.db", "--store", "sqlite:other.db"), ("sqlite:gone",)),
    "store verify": ((), ("sqlite:gone/kitaru.db",)),
    "store gc": (("--older-than", "1d", "--dry-run"), ("--older-than", "gone")),
    "store upload": (("build/review/vertex",), ("gone",)),
    "tokens create": (("ci", "--role", "viewer"), ("ci", "--role", "root")),
    "tokens list": ((), ("--gone",)),
    "tokens revoke": (("old",), ("absent",)),
    "notifications list": ((), ("gone",)),
    "notifications channels": ((), ("--gone",)),
    "notifications test": (("hooks",), ("gone",)),
    "audit": ((), ("--after", "gone")),
    "secrets set": (("SOME_KEY",), ("no name",)),
    "secrets list": ((), ("--gone",)),
    "secrets show": (("OTHER_KEY",), ("GONE_KEY",)),
    "secrets delete": (("OTHER_KEY",), ("GONE_KEY",)),
}
THEIRS = """\
from zenml import pipeline


@pipeline
def theirs(topic: str) -> str:
    return topic
"""
# It succeeds with a model alone: tests/memory has one.
WORKING = [name for name in COMMANDS if name != "memory compact"]


def every(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from every(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def test_every_command_is_in_the_table() -> None:
    # Others talk to these in a protocol of their own: tests/editor, tests/server.
    assert {name for name, _ in every(cli)} == {*COMMANDS, "lsp", "mcp", "serve"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does_and_takes_json(name: str) -> None:
    command = dict(every(cli))[name]
    options = {text for parameter in command.params for text in parameter.opts}
    assert "--json" in options
    assert command.help and command.help.splitlines()[0].endswith((".", ":"))
    undocumented = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert undocumented in ([], ["limit"])


@dataclass(frozen=True)
class Ran:
    """Every command in one project: how it went where it succeeds, and where it fails."""

    kitaru: Kitaru
    good: dict[str, Done]
    bad: dict[str, Done]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    kitaru = Kitaru(tmp_path_factory.mktemp("every"))
    names = _prepare(kitaru)

    def given(name: str, side: int) -> list[str]:
        return [*name.split(), *(names.get(t, t) for t in COMMANDS[name][side]), "--json"]

    with receiving() as receiver:
        kitaru.environ["HOOK_URL"] = receiver.url
        good = kitaru.each([given(name, 0) for name in WORKING], stdin="a value\n")
    bad = kitaru.each([given(name, 1) for name in COMMANDS])
    return Ran(kitaru, dict(zip(WORKING, good, strict=True)), dict(zip(COMMANDS, bad, strict=True)))


def _prepare(kitaru: Kitaru) -> dict[str, str]:
    """Make a project in which every command has something to work on; return its executions."""
    builders = Builders(kitaru.folder / "bin")
    builders.add("docker")
    kitaru.environ["PATH"] = f"{builders.folder}{os.pathsep}{kitaru.environ['PATH']}"
    stack = '[tool.kitaru.stacks.dev]\nstore = "sqlite:.kitaru/kitaru.db"\n'
    hooks = '[tool.kitaru.notify.hooks]\nkind = "slack"\nurl_secret = "HOOK_URL"\n'
    kitaru.write("pyproject.toml", f"[tool.kitaru]\n{stack}{hooks}")
    kitaru.write("review.py", flows.REVIEW)
    kitaru.write("failing.py", flows.FAILING)
    kitaru.write("theirs.py", THEIRS)
    run = ("run", "review.py", *TOPIC, "--no-input", "--no-cache", "--json")
    begun = kitaru.each(
        [
            run,
            run,
            run,
            ("run", "failing.py", "--json"),
            ("init", "made"),
            ("memory", "set", "key", "1", "--scope", "namespace:n"),
            ("compile", "review.py", *VERTEX),
            ("deploy", "review.py", *VERTEX),
            *(
                ("schedule", "create", "review", "--cron", "0 2 * * *", *TOPIC, "--id", id)
                for id in ("nightly", "early")
            ),
            ("events", "send", "invoice.paid", "--id", "first"),
            ("secrets", "set", "OTHER_KEY"),
            ("tokens", "create", "old", "--role", "viewer"),
        ],
        stdin="x\n",
    )
    assert [done.code for done in begun] == [0, 0, 0, 1, *[0] * 9]
    ids = [done.document["exec_id"] for done in begun[:4]]
    kitaru.write("fixed", "")
    kitaru.write("judge.py", "def finished(run):\n    return run.result is not None\n")
    ended = [("input", ids[0], "--value", "true"), ("cancel", ids[2])]
    assert [done.code for done in kitaru.each([("executions", *one) for one in ended])] == [0, 0]
    return dict(zip(("EXEC", "WAITS", "CANCELLED", "FAILED"), ids, strict=True))


@pytest.mark.parametrize("name", WORKING)
def test_every_command_writes_one_document(name: str, ran: Ran) -> None:
    done = ran.good[name]
    assert done.code == 0, done
    assert isinstance(done.document, dict)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_fails_in_json(name: str, ran: Ran) -> None:
    done = ran.bad[name]
    assert done.code == 2, done
    assert done.error["exit_code"] == 2 and done.error["message"] and done.error["type"]


def test_a_store_that_is_not_there_ends_with_3(ran: Ran) -> None:
    ran.kitaru.write("file", "where a folder should be")
    gone = ("--store", "sqlite:file/kitaru.db", "--json")
    names = ("executions list", "flow list", "store check")
    for done in ran.kitaru.each([(*name.split(), *gone) for name in names]):
        assert (done.code, done.error["exit_code"]) == (3, 3)


def test_an_interrupted_invocation_can_be_resumed(kitaru: Kitaru) -> None:
    # Steps run elsewhere, so the files that the flow waits for are named from the root.
    kitaru.write("slow.py", flows.SLOW.replace('Path("', f'Path("{kitaru.folder}/'))
    kitaru("deploy", "slow.py", *VERTEX)
    process = subprocess.Popen(
        kitaru.command(["invoke", "both", "--local", "--json"]), cwd=kitaru.folder,
        env=kitaru.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    wait_for_file(kitaru.folder / "slow-began")
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=240)
    assert (process.returncode, out) == (130, "")
    error = json.loads(err.splitlines()[-1])["error"]
    assert error["exit_code"] == 130
    assert "kitaru executions resume" in error["help"]
    (kitaru.folder / "go").touch()
    resume = error["help"].split("kitaru ", 1)[1].split()
    assert kitaru(*resume, "--json").document["result"] == "quick slow"
