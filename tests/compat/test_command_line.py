"""The command line of Kitaru 0.21 and earlier."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import click
import pytest

from kitaru import config
from kitaru.cli.app import cli, run
from kitaru.compat.command_line import rewrite
from kitaru.compat.removed import ATTRIBUTES, COMMANDS, PARTS, REMOVED, VARIABLES
from kitaru.runtime import secrets

ROOT = Path(__file__).resolve().parents[2]
# A command line in a text: `kitaru`, its words and its options.
COMMAND = re.compile(r"\bkitaru ((?:[a-z][a-z-]*|--[a-z-]+|[A-Z.a-z=]+)(?: (?:[\w.=-]+))*)")
FLOW = """\
import kitaru
from kitaru import checkpoint, flow

@checkpoint
def a(topic: str) -> str: return f"a of {topic}"

@checkpoint
def b(text: str) -> str: return f"b of {text}"

@flow(cache=False)
def main(topic: str) -> str:
    return b(a(topic))
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def document(capfd: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    # A command with --json sends file descriptor 1 to stderr for the rest of its process.
    stdout = os.dup(1)
    try:
        assert run([*arguments]) == code
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
    return json.loads(capfd.readouterr().out)


REWRITTEN = [
    ("executions list -o json", "executions list --json", True),
    ("executions list --output json", "executions list --json", True),
    ("executions list --output=json", "executions list --json", True),
    ("executions list -ojson", "executions list --json", True),
    ("compile f.py -o build", "compile f.py -o build", False),
    ("compile f.py --output=build", "compile f.py --output=build", False),
    ("compile f.py -o", "compile f.py -o", False),
    ("run f.py -- -o json", "run f.py -- -o json", False),
    ("executions replay E --from a", "executions replay E --from a", False),
    ("executions replay E --at a", "executions replay E --from a", False),
    ("executions replay E --at failure", "executions replay E --at failure", False),
    ('executions replay E --args {"x":1}', 'executions replay E --inputs {"x":1}', False),
    ('executions replay E --flow-overrides={"x":1}', 'executions replay E --inputs {"x":1}', False),
    (
        'executions replay E --overrides {"checkpoint.a":"x"}',
        'executions replay E --set checkpoint.a="x"',
        False,
    ),
    (
        'executions replay E --checkpoint-overrides {"a":{"output":1}}',
        "executions replay E --set checkpoint.a=1",
        False,
    ),
    (
        'executions replay E --invocation-overrides {"a_2":{"output":1}}',
        "executions replay E --set checkpoint.a_2=1",
        False,
    ),
    ("executions list --page 2 --size 5", "executions list --page 2 --limit 5", False),
    ("executions list --size=5", "executions list --limit=5", False),
    ("executions logs E --checkpoint a", "executions logs E --invocation a", False),
    ("executions input E --interactive", "executions input E", False),
    ("executions input E -i", "executions input E", False),
    ('invoke main --input {"x":1}', 'invoke main --inputs {"x":1}', False),
    ('invoke main --input={"x":1}', 'invoke main --inputs={"x":1}', False),
    ("invoke main --input x=1", "invoke main --input x=1", False),
    ("flow deployments list", "flow list", False),
    ("flow deployments list main --json", "flow show main --json", False),
    ("flow deployments show main", "flow show main@default", False),
    ("flow deployments show main --tag canary", "flow show main@canary", False),
    ("flow deployments show main --version=2", "flow show main@v2", False),
    ("memory scopes", "memory scope list", False),
    ("memory get k --scope s --scope-type flow", "memory get k --scope flow:s", False),
    ("memory get k --scope flow:s", "memory get k --scope flow:s", False),
    ("memory list --scope-type=namespace", "memory list --scope namespace", False),
]


@pytest.mark.parametrize(("given", "expected", "enveloped"), REWRITTEN)
def test_rewritten_command_lines(given: str, expected: str, enveloped: bool) -> None:
    assert rewrite(given.split()) == (expected.split(), enveloped)


@pytest.mark.parametrize(
    "given",
    [
        "executions replay E --overrides [1]",
        "executions replay E --overrides {",
        'executions replay E --overrides {"a":1}',
        'executions replay E --checkpoint-overrides {"a":1}',
    ],
)
def test_overrides_of_another_form_are_refused(
    given: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(given.split()) == 2
    assert capfd.readouterr().err.startswith("error: ")


def test_documents_in_an_envelope(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "f.py").write_text(FLOW)
    made = document(capfd, "run", "f.py", "--input", "topic=owls", "--output", "json")
    assert made["command"] == "run" and made["item"]["result"] == "b of a of owls"
    listed = document(capfd, "executions", "list", "-o", "json")
    assert (listed["command"], listed["count"], len(listed["items"])) == ("executions.list", 1, 1)
    got = document(capfd, "executions", "get", made["item"]["exec_id"], "-o", "json")
    assert (got["command"], got["item"]["status"]) == ("executions.get", "completed")
    plain = document(capfd, "executions", "get", made["item"]["exec_id"], "--json")
    assert plain["status"] == "completed"
    replayed = document(
        capfd, "executions", "replay", made["item"]["exec_id"], "--at", "b",
        "--overrides", '{"checkpoint.a": "x"}', "-o", "json",
    )  # fmt: skip
    assert replayed["item"]["result"] == "b of x"


def test_a_secret_of_one_value_is_found_under_both_names(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert run(["secrets", "set", "openai-creds", "--SERVICE_KEY=correct-horse"]) == 0
    assert secrets.find("SERVICE_KEY") == secrets.find("openai-creds") == "correct-horse"
    assert "correct-horse" not in "".join(capfd.readouterr())
    shown = document(capfd, "secrets", "show", "openai-creds", "-o", "json")
    assert shown == {
        "command": "secrets.show",
        "item": {"name": "openai-creds", "found": "kept for this user"},
    }
    assert run(["secrets", "show", "NOTHING"]) == 2


def test_a_secret_of_several_values() -> None:
    assert (
        run(["secrets", "set", "both", "--ONE_KEY", "first-value", "--TWO_KEY=second-value"]) == 0
    )
    assert (secrets.find("ONE_KEY"), secrets.find("TWO_KEY")) == ("first-value", "second-value")
    assert secrets.find("both") is None


@pytest.mark.parametrize("words", [["correct-horse"], ["--KEY="], ["--=correct-horse"], ["--KEY"]])
def test_a_secret_of_another_form_is_refused_and_not_shown(
    words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["secrets", "set", "NAME", *words]) == 2
    assert "correct-horse" not in "".join(capfd.readouterr())


def test_a_model_is_registered(capfd: pytest.CaptureFixture[str]) -> None:
    words = ["model", "register", "fast", "--model", "openai/gpt-x", "--secret", "openai-creds"]
    assert document(capfd, *words, "-o", "json")["command"] == "model.register"
    assert config.models() == {"fast": {"model": "openai/gpt-x", "secret": "openai-creds"}}
    assert run(["model", "register", "slow", "--model", "openai/gpt-y"]) == 0
    assert config.models()["slow"] == "openai/gpt-y"


@pytest.mark.parametrize("form", ['{"fast": "a/b"}', '{"aliases": {"fast": "a/b"}}'])
def test_the_registry_variable(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_MODEL_REGISTRY", form)
    assert config.models() == {"fast": "a/b"}
    monkeypatch.setenv("KITARU_MODELS", '{"fast": "c/d"}')
    assert config.models() == {"fast": "c/d"}


def test_stacks(capfd: pytest.CaptureFixture[str]) -> None:
    words = ["stack", "create", "prod", "--type", "vertex", "--store", "gs://b/p"]
    made = document(capfd, *words, "--set", "project=p", "-o", "json")
    assert made["item"]["settings"] == {
        "target": "vertex", "store": "gs://b/p", "submit": {"project": "p"},
    }  # fmt: skip
    assert run(["stack", "create", "prod"]) == 2
    assert run(["stack", "create", "other", "--type", "nothing"]) == 2
    assert run(["stack", "use", "prod"]) == 0
    assert "prod is in force" in capfd.readouterr().out
    assert document(capfd, "stack", "current", "--json")["name"] == "prod"
    Path(".kitaru/stack").unlink()
    assert run(["stack", "delete", "prod"]) == 0
    assert run(["stack", "delete", "prod"]) == 2
    assert config.stacks() == {}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_without_an_equivalent(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--any"]) == 2
    assert f"help: {COMMANDS[name]}" in capfd.readouterr().err


@pytest.mark.parametrize("part", PARTS)
def test_parts_of_command_lines_without_an_equivalent(
    part: str, capfd: pytest.CaptureFixture[str]
) -> None:
    *command, last = part.split()
    words = [*command, "x", last, "y"] if last.startswith("-") else [*command, last, "x"]
    assert run(words) == 2
    assert f"help: {PARTS[part]}" in capfd.readouterr().err


def test_an_answer_without_an_execution_lists_those_that_wait(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert run(["executions", "input", "--interactive"]) == 2
    assert "kitaru executions list --status waiting" in capfd.readouterr().err


def test_executions_by_the_number_of_the_page(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "paged.py").write_text(FLOW)
    made = [
        document(capfd, "run", "paged.py", "-i", f"topic=t{n}", "--json")["exec_id"]
        for n in range(3)
    ]
    pages = [
        document(capfd, "executions", "list", "--page", page, "--size", "2", "--json")
        for page in ("1", "2", "3")
    ]
    listed = [[one["exec_id"] for one in page["items"]] for page in pages]
    assert listed == [[made[2], made[1]], [made[0]], []]
    assert [page["next"] for page in pages] == [made[1], None, None]


def test_a_tag_is_taken_away(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "f.py").write_text(FLOW)
    assert run(["deploy", "f.py:main", "--tag", "canary", "--exclusive"]) == 0
    capfd.readouterr()
    removed = document(capfd, "flow", "untag", "main", "canary", "--json")
    assert removed == {"flow": "main", "tag": "canary", "version": None}
    shown = document(capfd, "flow", "show", "main", "--json")
    assert shown["items"][0]["tags"] == ["default"]
    assert run(["flow", "untag", "main", "canary"]) == 2
    assert "has no tag canary" in capfd.readouterr().err
    assert run(["invoke", "main", "--tag", "canary", "-i", "topic=x"]) == 2
    assert run(["flow", "untag", "main", "default"]) == 2
    assert run(["flow", "tag", "main", "canary", "--version", "1"]) == 0
    capfd.readouterr()
    tagged = document(capfd, "flow", "show", "main@canary", "--json")
    assert tagged["items"][0]["tags"] == ["canary", "default"]


@pytest.mark.parametrize("name", VARIABLES)
def test_variables_without_effect(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "x")
    assert run(["stack", "current"]) == 0
    out, err = capfd.readouterr()
    assert f"{name} has no effect: use {VARIABLES[name]}" in err and name not in out


def test_the_commands_and_options_that_messages_name_exist() -> None:
    texts = [
        *REMOVED.values(),
        *ATTRIBUTES.values(),
        *COMMANDS.values(),
        *VARIABLES.values(),
        *PARTS.values(),
    ]
    texts.append((ROOT / "docs/how-to/migrating.md").read_text())
    named = [found.split() for text in texts for found in COMMAND.findall(text)]
    assert len(named) > 15
    for words in named:
        command: click.Command = cli
        while isinstance(command, click.Group):
            word = words.pop(0)
            found = command.get_command(click.Context(command), word)
            assert found is not None, word
            command = found
        taken = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= taken, (command.name, words)
