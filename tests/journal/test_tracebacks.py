"""A failure shows the author's own lines; frames of libraries are counted."""

from __future__ import annotations

import json
import traceback

import click
import pytest

from kitaru import checkpoint, flow
from kitaru.errors import FlowError
from kitaru.runtime.journal.exceptions import user_traceback


def caught(fails: object) -> str:
    with pytest.raises(Exception) as raised:
        fails()  # type: ignore[operator]
    return user_traceback(raised.value)


def from_python() -> None:
    json.loads("{")


def from_a_library() -> None:
    click.Command("c", params=[click.Option(["--n"], type=int)]).main(
        ["--n", "x"], standalone_mode=False
    )


def called_back() -> None:
    sorted([2, 1], key=lambda n: json.loads("{" * n))


def with_a_cause() -> None:
    try:
        from_python()
    except ValueError as error:
        raise RuntimeError("no answer") from error


def test_frames_of_libraries_are_counted() -> None:
    shown = caught(from_a_library)
    assert "type=int" in shown and "frames in click\n" in shown
    assert shown.count("File ") == shown.count(__file__) and "BadParameter" in shown


def test_the_standard_library_counts_as_one() -> None:
    for fails in (from_python, called_back):
        shown = caught(fails)
        assert "frames in Python\n" in shown and "json.loads" in shown
        assert shown.rstrip().splitlines()[-1].startswith("json.decoder.JSONDecodeError: Expecting")


def test_causes_are_shown_the_same_way() -> None:
    shown = caught(with_a_cause)
    assert shown.index("JSONDecodeError") < shown.index("direct cause") < shown.index("no answer")
    assert shown.count("frames in Python") == 1


def test_a_traceback_without_libraries_is_as_python_prints_it() -> None:
    def fails() -> None:
        raise ValueError("mine")

    shown = caught(fails)
    assert "…" not in shown and 'raise ValueError("mine")' in shown


@checkpoint
def refuses(q: str) -> str:
    try:
        raise LookupError(q)
    except LookupError as error:
        raise ValueError("refused") from error


@flow
def asks(q: str) -> str:
    return refuses(q)


def test_an_error_that_a_script_does_not_catch_shows_its_own_frames(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def shown() -> str:
        with pytest.raises(FlowError) as raised:
            asks.run("owls").wait()
        return "".join(traceback.format_exception(raised.value.__cause__))

    assert "runtime" in shown(), "tests set KITARU_TRACEBACK"
    monkeypatch.delenv("KITARU_TRACEBACK")
    text = shown()
    assert "in asks" in text and "in refuses" in text and "LookupError: owls" in text
    assert "runtime" not in text
