"""Executions by prefix and `latest`, reads that make no file, completion in a shell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from kitaru.cli.app import cli
from kitaru.cli.completion import VARIABLE
from kitaru.client import KitaruClient
from kitaru.errors import NotFound, UsageError
from kitaru.runtime.executions.invocation_ref import execution_id
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store
from kitaru.stores.base import Store
from kitaru.wire.records import ExecutionRecord, StoredValue
from tests.waiting import attempts

from .conftest import Kitaru

ONE = """
from kitaru import checkpoint, flow
@checkpoint
def add(a: int) -> int:
    return a + 1
@flow
def one(a: int = 1) -> int:
    return add(a)
"""


def begun(store: Store, exec_id: str, started_at: str) -> None:
    inputs = StoredValue({}, size=2, digest="sha256:" + "0" * 64, type="dict")
    Journal.create(store, ExecutionRecord(exec_id, "f", "m:f", "", "local", inputs, "", started_at))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(f"sqlite:{tmp_path / 'k.db'}")
    for number, exec_id in enumerate(["abcd", "abcd-2", "abcde-1", "abcx-9", "latest-not"]):
        begun(store, exec_id, f"2026-01-01T00:00:0{number}.000000Z")
    return store


@pytest.mark.parametrize(
    ("named", "meant"),
    [("abcd", "abcd"), ("abcd-", "abcd-2"), ("abcde", "abcde-1"), ("abcx", "abcx-9"),
     ("late", "latest-not"), ("latest", "latest-not"), ("latest-not", "latest-not")],
)  # fmt: skip
def test_an_execution_is_found_by_its_prefix(named: str, meant: str, store: Store) -> None:
    assert execution_id(store, named) == meant
    assert KitaruClient(store).executions.get(named).exec_id == meant


def test_a_prefix_that_several_ids_have_lists_them(store: Store) -> None:
    for number in range(12):
        begun(store, f"many-{number:02}", f"2026-01-02T00:00:{number:02}.000000Z")
    with pytest.raises(UsageError) as raised:
        execution_id(store, "many")
    assert raised.value.help.split() == [f"many-{n:02}" for n in range(10)] + ["…"]


def test_a_prefix_is_long_enough_and_of_some_id(store: Store) -> None:
    with pytest.raises(NotFound, match="at least 4 characters"):
        execution_id(store, "abc")
    with pytest.raises(NotFound, match="no execution zzzz in"):
        execution_id(store, "zzzz")
    with pytest.raises(UsageError, match="cannot be an execution id"):
        execution_id(store, "No/id")


def test_an_execution_that_is_called_latest_is_the_latest(store: Store) -> None:
    begun(store, "latest", "2020-01-01T00:00:00.000000Z")
    assert execution_id(store, "latest") == "latest"


def test_no_execution_is_the_latest_of_an_empty_store(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no executions in"):
        execution_id(open_store(f"sqlite:{tmp_path}/"), "latest")


def arguments_of(command: click.Command) -> list[click.Argument]:
    return [each for each in command.params if isinstance(each, click.Argument)]


def arguments(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield every command that takes an execution, by the words that name it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from arguments(command, (*words, name))
        elif command and any("EXEC" in (p.metavar or "") for p in arguments_of(command)):
            yield (*words, name)


# What each of them needs besides the execution, to get as far as looking for it.
MORE = {
    ("executions", "diff"): ("latest",),
    ("executions", "input"): ("--value", "true"),
    ("executions", "signal"): ("news", "--value", "1"),
    ("artifacts", "get"): ("add",),
}


def test_every_command_that_takes_an_execution_takes_a_prefix(kitaru: Kitaru) -> None:
    kitaru.write("one.py", ONE)
    kitaru("run", "one.py")
    commands = [*arguments(cli), ("diff", "one.py", "--deployed")]
    assert ("executions", "get") in commands and len(commands) > 8
    asked = [
        (*words, named, *MORE.get(words, ()))
        for words in commands
        for named in ("latest", "zzzz-no", "0")
    ]  # fmt: skip
    for words, ended in zip(asked, kitaru.each(asked), strict=True):
        unknown = "There is no execution" in ended.err
        assert unknown == any(no in words for no in ("zzzz-no", "0")), (words, ended)


READS = [
    ("executions", "list"), ("executions", "get", "latest"), ("executions", "get", "abcd-efgh"),
    ("executions", "logs", "latest"), ("executions", "lineage", "latest"),
    ("executions", "diff", "latest", "abcd"), ("executions", "resume", "abcd-efgh"),
    ("artifacts", "list", "latest"), ("flow", "list"), ("memory", "list", "--scope", "namespace:n"),
]  # fmt: skip


def test_a_read_makes_no_store_and_says_where_it_looked(kitaru: Kitaru) -> None:
    for words, ended in zip(READS, kitaru.each(READS), strict=True):
        assert not (kitaru.folder / ".kitaru").exists(), words
        if words[0] == "executions":
            assert f"sqlite:{kitaru.folder}/.kitaru/kitaru.db" in ended.out + ended.err, words


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(shell: str, kitaru: Kitaru) -> None:
    script = kitaru(**{VARIABLE: f"{shell}_source"}).out
    assert f"{VARIABLE}={shell}_complete" in script
    assert re.search(r"\bkitaru\b", script)


def completed(kitaru: Kitaru, typed: str) -> list[str]:
    words = typed.split(" ")
    env = {"COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1), VARIABLE: "bash_complete"}
    return [line.partition(",")[2] for line in kitaru(**env).out.split()]


def test_what_is_typed_is_completed(kitaru: Kitaru) -> None:
    kitaru.write("one.py", ONE)
    kitaru.write("pyproject.toml", "[tool.kitaru.stacks.dev]\ntarget = 'vertex'\n")
    exec_id = kitaru("run", "one.py", "--json").document["exec_id"]
    assert completed(kitaru, "kitaru exe") == ["executions"]
    assert completed(kitaru, "kitaru executions ge") == ["get"]
    assert completed(kitaru, "kitaru executions get la") == ["latest"]
    assert completed(kitaru, f"kitaru executions get {exec_id[:5]}") == [exec_id]
    assert completed(kitaru, f"kitaru executions diff latest {exec_id[:5]}") == [exec_id]
    assert completed(kitaru, "kitaru compile one.py -t ver") == ["vertex"]
    assert completed(kitaru, "kitaru compile one.py:o") == ["one.py:one"]
    assert completed(kitaru, "kitaru run one.py --stack d") == ["dev"]
    kitaru("deploy", "one.py")
    assert completed(kitaru, "kitaru invoke o") == ["one"]
    assert completed(kitaru, "kitaru flow show o") == ["one"]
    assert completed(kitaru, "kitaru nonsense x") == []


def test_completion_makes_no_store_and_shows_no_error(kitaru: Kitaru) -> None:
    assert completed(kitaru, "kitaru executions get z") == []
    assert not (kitaru.folder / ".kitaru").exists()
    env = {"COMP_WORDS": "kitaru executions get z", "COMP_CWORD": "3"}
    broken = kitaru(**env, **{VARIABLE: "bash_complete", "KITARU_STORE": "nonsense:"})
    assert (broken.out.strip(), broken.err) == ("", "")


def test_a_listing_is_read_page_by_page(tmp_path: Path) -> None:
    store = open_store(f"sqlite:{tmp_path / 'k.db'}")
    for number in range(7):
        begun(store, f"run-{number}", "2026-01-02T00:00:00.000000Z")
    pages, after = [], ""
    client = KitaruClient(store)
    for _ in attempts():
        page = client.executions.page(limit=3, after=after)
        pages.append([item["exec_id"] for item in page.items])
        if page.next is None:
            break
        assert page.total == 7
        after = page.next
    assert pages == [
        [f"run-{n}" for n in (0, 1, 2)], [f"run-{n}" for n in (3, 4, 5)], ["run-6"],
    ]  # fmt: skip
    with pytest.raises(NotFound):
        client.executions.page(after="gone")
