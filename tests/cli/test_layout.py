"""Tables and lines fit the terminal: no word breaks, no id is lost, and a pipe gets plain lines."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitaru.cli import layout
from kitaru.cli.app import run

from .conftest import Kitaru

FLOW = """
import kitaru
from kitaru import checkpoint, flow

@checkpoint
def collect_sources(topic: str) -> list[str]:
    return [f"{topic}, volume {n}" for n in range(2)]

@checkpoint
def summarise_each_source(source: str) -> str:
    prompt = f"Summarise {source} for readers who want facts, dates and names. " * 9
    return kitaru.llm(prompt, model="nobody")

@checkpoint
def write_briefing(parts: list[str]) -> str:
    kitaru.save("briefing", parts)
    kitaru.log(reviewer="nobody", words=235)
    return " ".join(parts)

@flow
def newsroom(topic: str = "the price of grain in the Baltic harbours of 1740") -> str:
    text = write_briefing(summarise_each_source.map(collect_sources(topic)).result())
    kitaru.memory.set("newsroom/last-topic", topic)
    question = "Do the dates and names in this briefing hold, as far as you can tell?"
    return text if kitaru.wait(name="editor", question=question, schema=bool) else ""
"""
LISTINGS = [
    "executions list", "executions get latest", "executions calls latest",
    "executions lineage latest", "executions diff latest latest", "artifacts list latest",
    "flow list", "flow show newsroom", "memory history newsroom/last-topic --scope flow:newsroom",
    "memory scope list", "model list", "model usage --since 7d", "stack list", "stack show",
    "target list", "store check", "explain newsroom.py:write_briefing", "check newsroom.py",
]  # fmt: skip


@pytest.fixture(scope="module")
def newsroom(tmp_path_factory: pytest.TempPathFactory) -> Kitaru:
    kitaru = Kitaru(tmp_path_factory.mktemp("newsroom"))
    stack = '[tool.kitaru.stacks.production]\nstore = "s3://a-bucket-of-the-newsroom/kitaru"\n'
    kitaru.write("pyproject.toml", stack)
    kitaru.write("newsroom.py", FLOW)
    kitaru("run", "newsroom.py", "--no-input")
    kitaru("deploy", "newsroom.py")
    return kitaru


@pytest.mark.parametrize("listing", LISTINGS)
def test_a_listing_fits_the_terminal(
    listing: str,
    newsroom: Kitaru,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(newsroom.folder)
    shown = {}
    for width in (0, 40, 80, 200):
        monkeypatch.setattr(layout, "columns", lambda stream, width=width: width)
        assert run(listing.split()) == 0
        captured = capsys.readouterr()
        shown[width] = captured.out + captured.err
        for line in shown[width].splitlines() if width else []:
            assert len(line) <= width or stays_whole(line), line
    for width in (40, 80, 200):
        # Where rows are stacked, each begins with its target or model, not named again.
        assert words(shown[0]) - {"target", "model"} <= words(shown[width]), width


@pytest.mark.parametrize("command", ["", "executions", "memory", "run"])
def test_a_help_fits_the_terminal(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(layout, "columns", lambda stream: 40)
    assert run([*command.split(), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 40 and len(line.split()) > 2] == []


def stays_whole(line: str) -> bool:
    """Whether a line is a single word, or holds a command to paste."""
    return len(line.split()) == 1 or "kitaru " in line or "sha256:" in line or "sqlite:" in line


def words(text: str) -> set[str]:
    # A colon follows the name of a column where rows are stacked; latencies are measured anew.
    found = {word.rstrip(":") for word in text.split()}
    return {word for word in found if not re.fullmatch(r"[\d.]+", word)}


@pytest.mark.parametrize("listing", ["executions list", "executions get latest", "stack show"])
def test_a_pipe_gets_the_same_whatever_the_terminal(listing: str, newsroom: Kitaru) -> None:
    plain, narrow = (newsroom(*listing.split(), **env) for env in ({}, {"COLUMNS": "20"}))
    assert (plain.out, plain.err) == (narrow.out, narrow.err)


def test_the_width_is_that_of_the_stream() -> None:
    reading, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 57, 0, 0))
    with os.fdopen(terminal, "w") as stream:
        assert layout.columns(stream) == int(os.environ.get("COLUMNS", 57))
    os.close(reading)


def test_the_width_of_a_file_is_unknown(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as stream:
        assert layout.columns(stream) == 0


CELLS = st.text(st.sampled_from("ab é日\n"), max_size=60)


@given(
    st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n))),
    st.integers(1, 90),
)
def test_no_word_breaks_and_none_is_lost(rows: list[list[str]], width: int) -> None:
    shown = layout.table(rows, width)
    assert len(shown) == len(rows)
    for row, text in zip(rows, shown, strict=True):
        assert text.split() == " ".join(row).split()
        for line in text.split("\n"):
            assert layout.cells(line) <= width or len(line.split()) == 1


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1))
def test_without_a_width_columns_are_aligned(rows: list[tuple[str, str, str]]) -> None:
    lines = layout.table([("|".join(row).replace("\n", " "), "x") for row in rows])
    assert len({layout.cells(line) for line in lines}) == 1


def test_a_stacked_row_names_its_columns() -> None:
    row = ["1m8kc6yk1-3sa75frx", "offline, 179 tokens", "a result of some length", ""]
    heads = ["execution", "took", "now", "cost"]
    assert layout.table([row], 44, heads) == [
        "1m8kc6yk1-3sa75frx\n    took: offline, 179 tokens\n    now: a result of some length"
    ]


def test_a_secret_with_spaces_is_hidden_before_lines_break(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kitaru.cli.output import Output
    from kitaru.wire import redaction

    secret = "correct horse battery staple of the whole team"
    monkeypatch.setattr(redaction, "_known", redaction.Known())
    redaction.register_value("PASSPHRASE", secret)
    monkeypatch.setattr(layout, "columns", lambda stream: 20)
    Output(False).table([("is", secret)])
    Output(False).say(f"it is {secret}", hang=2)
    assert "horse" not in capsys.readouterr().out
