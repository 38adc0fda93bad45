"""No command lets text of flows, models and stores drive a terminal, or forge a line to paste."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from pathlib import Path

import click
import pytest
from kitaru_targets import registry

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.cli import app
from kitaru.wire.printable import rendered, styled, visible

from .test_every_command import every

FORGED = "answer   kitaru executions input EVIL --value true"
HOSTILE = (
    "ok\x1b[2K\x1b]0;title\x07\rforged\x9b31m\u202egnp\u2066x\u2069\u200bz\u200d\u061c\x00\x08\x7f"
    f"\u2028sep\n{FORGED}\r\n{FORGED}\x85{FORGED}"
)


class Strange(Exception):
    pass


@checkpoint
def talks(text: str) -> str:
    sys.stdout.write(text)
    kitaru.log(remark=text)
    kitaru.save("file", text)
    return text


@checkpoint
def breaks(text: str) -> str:
    raise Strange(text)


@flow
def hostile(text: str, how: str) -> str:
    talks(text)
    if how == "fails":
        breaks(text)
    if how == "waits":
        kitaru.wait(name="fine", question=text, schema=str, metadata={text: text})
    kitaru.memory.set("note", text)
    return text


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("KITARU_STORE", f"sqlite:{tmp_path / 'kitaru.db'}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)
    ran = {}
    for how in ("completes", "fails", "waits"):
        handle = hostile.run(HOSTILE, how)
        handle.settle(60)
        ran[how] = handle.exec_id
    return ran


COMMANDS = """
executions list
executions get {0}
executions get {1}
executions get {2}
executions logs {0}
executions calls {0}
executions export {0}
executions diff {0} {1}
artifacts list {0}
artifacts get {0} file
memory scope list
memory list --scope hostile
memory get note --scope hostile
memory history note --scope hostile
executions resume {2}
compare {0} {1}
diff {0} {1}
executions retry {1}
executions cancel {2}
store check
executions input {2} --wait \u202ex --value \x1b[2J
executions get \x1b[2J
\x1b[2J
""".strip("\n").split("\n")
# What an argument of a command can contain.
ARGUMENT = HOSTILE.replace("\0", "")
# What a comment can contain: no line break of Python's, and no NUL.
RAW = "".join(c for c in HOSTILE if c not in "\n\r\0")
SOURCE = f'''
from typing import Literal

import kitaru
from kitaru import checkpoint, flow

TEXT = {HOSTILE!a}


@checkpoint
def asks(text: str, n: int = 0) -> str:
    kitaru.save("file", text)
    return text


@checkpoint(retrys=3)  # {RAW}
def wrong(n: int) -> int:
    return n


@flow
def attack(text: str = {HOSTILE!a}, how: Literal["a", {HOSTILE!a}] = "a", n: int = 1) -> str:
    """{RAW}"""
    while n < 3 and text != "{RAW}":  # {RAW}
        n += len(asks(text, n))
    if how == {HOSTILE!a}:
        kitaru.log(remark=asks("{RAW}", id="second"))
    kitaru.memory.set("note", text)
    kitaru.wait(name="fine", question={HOSTILE!a}, schema=str, metadata={{TEXT: TEXT}})
    return {HOSTILE!a}
'''
GOOD = SOURCE.replace("(retrys=3)", "")
# Without records that the other flow may read, which would take its file along.
WRONG = "".join(
    one for one in SOURCE.splitlines(True) if "kitaru.save" not in one and "set(" not in one
)
PROJECT = f"""
[project]
name = "attacks"
version = "1"
dependencies = [{json.dumps("left ; " + HOSTILE)}]

[tool.kitaru]
stack = "dev"

[tool.kitaru.models]
loud = {json.dumps("offline/" + HOSTILE)}
{json.dumps(HOSTILE)} = "offline/x"

[tool.kitaru.environment]
LABEL = {json.dumps(ARGUMENT)}

[tool.kitaru.secrets]
SOME_KEY = {json.dumps("env:" + HOSTILE)}

[tool.kitaru.stacks.dev]
target = "local"

[tool.kitaru.stacks.{json.dumps(HOSTILE)}]
store = {json.dumps("s3://" + HOSTILE)}
"""
# Migrated, its trigger is quoted in a mark.
THEIRS = f'''
import inngest

client = inngest.Inngest(app_id="shop")


@client.create_function(fn_id="main", trigger=inngest.TriggerEvent(event="""{RAW}"""))  # {RAW}
async def main(ctx: inngest.Context) -> str:
    ctx.logger.info({HOSTILE!a})
    return await ctx.step.run({HOSTILE!a}, ctx.unknown, {HOSTILE!a})
'''
JUDGE = f"""
def noted(run):
    return 1, {HOSTILE!a}


def broken(run):
    raise ValueError({HOSTILE!a})
"""
ON_A_PROJECT = """
check apart/wrong.py
check apart/wrong.py --format github
check apart/wrong.py --fix --unsafe-fixes --diff
check good.py
check good.py --fix --diff
migrate inngest apart/theirs.py --diff
migrate inngest {hostile}
compile apart/wrong.py --target vertex
compile good.py --target kubeflow
compile good.py --target kubeflow --image {hostile}
dry-run good.py --target vertex --no-input --input n=2
graph good.py
graph good.py --format dot
graph good.py --format svg
graph good.py --format html
diff build/attack/vertex good.py
diff good.py apart/wrong.py
verify build/attack/vertex
build build/attack/vertex --image {hostile}
build {hostile}
serve --host {hostile}
mcp --store {hostile}
verify {hostile}
deploy good.py --target vertex --tag {hostile}
deploy good.py --target vertex --tag stable
deploy good.py --target local
invoke attack --local --no-input
invoke attack --set {hostile}=x
flow list
flow show attack
flow show {hostile}
flow tag attack@v1 {hostile}
flow tag attack@v1 other
flow untag attack other
schedule create attack@stable --cron {hostile}
schedule create {hostile} --cron {cron}
schedule create attack@stable --cron {cron} --input how={hostile}
schedule create attack@stable --cron {cron} --input how=a --id nightly
notifications list
notifications list {hostile}
notifications channels
notifications test {hostile}
events send {hostile} --data {hostile}
events send paid --data 1 --id {hostile}
events list --name {hostile}
events triggers --flow {hostile}
events list
events get paid {hostile}
schedule list
schedule get nightly
schedule get {hostile}
schedule next nightly
schedule pause nightly
schedule resume nightly
schedule trigger {hostile}
schedule delete nightly
tokens create {hostile} --role viewer --flow {hostile}
tokens list
tokens revoke {hostile}
audit --flow {hostile}
audit
run good.py --no-input
run good.py --input how={hostile} --no-input
run good.py --input {hostile}
explain {hostile}
init {hostile}
init fresh
target list
stack list
stack show
stack current
stack show --stack {hostile}
stack create {hostile} --store s3://{hostile}
stack create made --store sqlite:made.db
stack use {hostile}
stack use dev
stack delete {hostile}
stack delete made
model list
model register {hostile} --model {hostile}
model register slow --model {hostile}
model usage --since 7d
secrets list
secrets set {hostile}
secrets show SOME_KEY
secrets delete {hostile}
store upload build/attack/vertex
store upload {hostile}
store backup sqlite:{hostile}
store restore sqlite:{hostile}
dispatcher run --once
dispatcher run --processes {hostile}
dispatcher status
store verify
store verify {hostile}
store gc --older-than {hostile}
store gc --older-than 1d
executions lineage {0}
executions signal {0} {hostile} --value {hostile}
executions cancel --where {hostile}
executions list --where input.how={hostile}
executions export {0} -o run.json
executions import run.json
executions import {hostile}
evaluate --with judge.py
evaluate --with {hostile}
executions replay {0} --from {hostile}
executions replay {0} --from memory_set
memory set {hostile} 1 --scope {hostile}
memory set key 1 --scope hostile
memory delete {hostile} --scope hostile
memory purge note --scope hostile
memory compact {hostile} --scope hostile
""".strip("\n").split("\n")
# Here, with what the project has; a fix that is only shown is still to be made.
FAIL = ("secrets show SOME_KEY", "check good.py --fix --diff", "evaluate --with judge.py")
# To a pipe or a file, what a flow returned goes as it is.
VALUES = (
    "executions get {0}", "artifacts get {0} file", "memory get note --scope hostile",
    "executions replay {0} --from memory_set",
)  # fmt: skip


def drives(text: str) -> str:
    """Return the first character that a terminal would interpret, or a forged line."""
    for character in text:
        if character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp"):
            return repr(character)
    return next((line for line in text.split("\n") if line.startswith(FORGED[:15])
                 and "EVIL" in line), "")  # fmt: skip


@pytest.fixture
def project(store: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a project whose every text is hostile, beside the store."""
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "good.py").write_text(GOOD)
    (tmp_path / "apart").mkdir()
    (tmp_path / "apart/wrong.py").write_text(WRONG)
    (tmp_path / "apart/theirs.py").write_text(THEIRS)
    (tmp_path / "judge.py").write_text(JUDGE)
    monkeypatch.delitem(sys.modules, "judge", raising=False)
    monkeypatch.delitem(sys.modules, "good", raising=False)
    app.run(["compile", "good.py", "--target", "vertex"])


def test_every_command_has_a_case() -> None:
    cases = [command.split() for command in COMMANDS + ON_A_PROJECT]
    # An editor talks to `lsp` in a protocol of its own.
    names = {name for name, _ in every(app.cli)} - {"lsp"}
    assert names == {n for n in names if any(case[: len(n.split())] == n.split() for case in cases)}


def test_every_file_for_people_of_a_build(project: None, tmp_path: Path) -> None:
    found = []
    for target in registry.names():
        assert app.run(["compile", "good.py", "--target", target, "-o", target]) == 0
        for name in ("DEPLOY.md", "Dockerfile", "index.html"):
            if what := drives(next((tmp_path / target).rglob(name)).read_text("utf-8")):
                found.append(f"{target}/{name}: {what}")
    assert not found, "\n".join(found)


def test_no_image_is_an_instruction(project: None, capfd: pytest.CaptureFixture[str]) -> None:
    image = ("--image", "python:3.11\nRUN id")
    assert app.run(["compile", "good.py", "--target", "kubeflow", *image]) == 2
    assert "cannot be a container image" in capfd.readouterr().err


def test_no_variable_has_what_a_process_refuses(
    project: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.kitaru.environment]\nA = "\\u0000"\n')
    assert app.run(["dry-run", "good.py", "--target", "vertex"]) == 2
    assert "environment" in capfd.readouterr().err


def as_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")


def obeyed(commands: list[str], capfd: pytest.CaptureFixture[str], **words: str) -> list[str]:
    """Run commands; return those whose output a terminal would obey, and what it would."""
    found = []
    is_terminal = sys.stdout.isatty()
    for command in commands:
        capfd.readouterr()
        given = command.split(" ")
        for name, text in words.items():
            given = [one.replace(name, text) for one in given]
        code = app.run(given)
        good = command in ON_A_PROJECT and not re.search(r"\{hostile\}|wrong|theirs", command)
        assert code == 0 or not good or command in FAIL, command
        assert code != 70, command
        out, err = capfd.readouterr()
        is_value = not is_terminal and command in VALUES
        shown = err if is_value else click.unstyle(out) + click.unstyle(err)
        assert out or err, command
        if what := drives(shown):
            found.append(f"{command}: {what}")
    return found


@pytest.mark.parametrize("is_terminal", [False, True])
def test_every_command(
    store: dict[str, str],
    is_terminal: bool,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if is_terminal:
        as_terminal(monkeypatch)
    ids = dict(zip(("{0}", "{1}", "{2}"), store.values(), strict=True))
    found = obeyed(COMMANDS, capfd, **ids)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_every_command_on_a_hostile_project(
    store: dict[str, str],
    project: None,
    is_terminal: bool,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if is_terminal:
        as_terminal(monkeypatch)
    words = {"{0}": store["completes"], "{hostile}": ARGUMENT, "{cron}": "0 2 * * *"}
    found = obeyed(ON_A_PROJECT, capfd, **words)
    assert not found, "\n".join(found)


def test_json_is_exact(store: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    app.run(["executions", "get", store["completes"], "--json"])
    out = capfd.readouterr().out
    assert json.loads(out)["result"] == HOSTILE
    assert not drives(out)


def test_a_style_that_a_text_claims_is_none() -> None:
    assert rendered(visible("\0[31mx\x1b[31m"), color=True) == "\\x00[31mx\\x1b[31m"
    assert rendered(visible(styled("a\x1b", "1")), color=True) == "\x1b[1ma\\x1b\x1b[0m"


def test_other_texts_stay() -> None:
    text = "Größe 漢字\u3000 a\u0301 🙂 | \N{NO-BREAK SPACE} tab\t.\nline"
    assert visible(text) == text


def test_a_notice_of_a_script(store: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    from kitaru.runtime.engine import exit_report

    journal = KitaruClient().executions.get(store["waits"]).journal
    capfd.readouterr()
    for request in journal.pending_waits():
        exit_report.write_question(journal, request, set())
    shown = capfd.readouterr().err
    assert "Fine" not in shown and "\\x1b[2K" in shown
    assert not drives(shown)
