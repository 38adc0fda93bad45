"""The text of an input, an answer or `FLOW` means what a user would expect."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from kitaru.cli.values import parse_answers, parse_inputs
from kitaru.errors import UsageError
from kitaru.ops.flow_ref import Location, locate
from kitaru.runtime.engine.questions import ask, example, hint, parse_answer, parse_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2),
        ("true", True),
        ("null", None),
        ('{"a": [1]}', {"a": [1]}),
        ("kayaks", "kayaks"),
        ("", ""),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ('"2"', "2"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_json_when_it_parses_else_text(text: str, value: Any) -> None:
    parsed = parse_value(text)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(("text", "value"), [("2", "2"), ("true", "true"), ('"2"', "2")])
def test_where_text_is_wanted_a_number_is_text(text: str, value: str) -> None:
    assert parse_value(text, is_text=True) == value


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "string"}, "2", "2"),
        ({"type": "string"}, '"2"', "2"),
        ({"enum": ["1", "2"]}, "1", "1"),
        ({"enum": [1, "1"]}, "1", 1),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "5", "5"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "null", None),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "5", 5),
        ({"type": "string", "format": "date"}, "2026-01-02", "2026-01-02"),
        ({"type": "array"}, "1,2", "1,2"),
        ({}, "[1]", [1]),
    ],
)
def test_an_answer_is_json_where_that_fits_and_else_text(
    schema: dict[str, Any], text: str, value: Any
) -> None:
    found = parse_answer(text, schema)
    assert (found, type(found)) == (value, type(value))


def test_inputs_from_pairs_over_a_file(tmp_path: Path) -> None:
    file = tmp_path / "in.json"
    file.write_text('{"topic": "a", "rounds": 1}')
    given = parse_inputs(["rounds=2", "note=x=y"], str(file))
    assert given == {"topic": "a", "rounds": 2, "note": "x=y"}
    assert parse_inputs([], '{"topic": "a"}') == {"topic": "a"}
    assert parse_inputs(["topic=2"], None, texts=["topic"]) == {"topic": "2"}


@pytest.mark.parametrize(
    ("pairs", "inputs_from", "message"),
    [
        (["topic"], None, "NAME=VALUE"),
        (["=x"], None, "NAME=VALUE"),
        (["a=1", "a=2"], None, "twice"),
        ([], "[1]", "object"),
        ([], "{oops", "not JSON"),
        ([], "absent.json", r"absent\.json"),
    ],
)
def test_bad_inputs_are_refused(pairs: list[str], inputs_from: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_inputs(pairs, inputs_from)


def test_answers() -> None:
    assert parse_answers(["ok=true", "why=because"]) == {"ok": "true", "why": "because"}


def test_flow_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "src" / "pack"
    package.mkdir(parents=True)
    (tmp_path / "a.py").touch()
    (package / "__init__.py").touch()
    (package / "b.py").touch()
    assert locate("a.py") == Location(Path("a.py"), None)
    assert locate("a.py:run") == Location(Path("a.py"), "run")
    assert locate("a:run") == Location(Path("a.py"), "run", "a")
    assert locate("pack.b:run") == Location(Path("src/pack/b.py"), "run", "pack.b")
    assert locate("pack:run") == Location(Path("src/pack/__init__.py"), "run", "pack")


@pytest.mark.parametrize(
    "spec", ["", "a", "a.py:", ":run", "no.py", "no.py:run", "no.such:run", "a.py:1x", "a-b:run"]
)
def test_a_flow_that_is_not_there(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").touch()
    with pytest.raises(UsageError) as caught:
        locate(spec)
    assert caught.value.help


def test_locating_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loud").mkdir()
    (tmp_path / "loud" / "__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / "loud" / "flows.py").write_text("raise SystemExit('imported')")
    assert locate("loud.flows:run").path == Path("loud/flows.py")


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def wait(schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": "ok", "question": "OK?", "schema": schema}


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "boolean"}, "perhaps\n\nYes\n", True),
        ({"type": "boolean"}, "n\n", False),
        ({"type": "string"}, "12\n", "12"),
        ({"type": "string"}, "\n", ""),
        ({"type": "integer"}, "\n12\n", 12),
        ({"type": "object"}, '{"a": 1}\n', {"a": 1}),
        ({}, "free\n", "free"),
    ],
)
def test_asking_takes_the_answer_of_the_schema(
    schema: dict[str, Any], text: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, text)
    answer = ask(wait(schema), lambda: False)
    assert answer == value and type(answer) is type(value)


def test_the_end_of_the_input_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, "perhaps\n")
    with pytest.raises(EOFError):
        ask(wait({"type": "boolean"}), lambda: False)


def test_hints_and_examples() -> None:
    assert hint({"type": "boolean"}) == "[y/n]"
    assert hint({"enum": ["a", "b"]}) == '["a" | "b"]'
    assert hint({"type": "object", "properties": {"a": {}}}) == "[JSON object: a]"
    assert hint({"anyOf": []}) == "[JSON]"
    text_or_none = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert hint(text_or_none) == "[string or null]"
    assert hint({"type": "string", "format": "date"}) == "[date]"
    assert example({"type": "boolean"}) == "true"
    assert example({"enum": ["a", "b"]}) == "a"
    assert example({"enum": ["1", 1]}) == '"1"'
    assert example({"type": "string", "format": "date"}) == "2000-01-31"
    required = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert example(required) == '{"n": 0}'


def test_a_ready_made_answer_agrees_and_takes_what_the_schema_offers() -> None:
    def of(**properties: Any) -> str:
        return example({"type": "object", "properties": properties, "required": [*properties]})

    assert of(ok={"type": "boolean"}) == '{"ok": true}'
    assert of(ok={"anyOf": [{"type": "boolean"}, {"type": "null"}]}) == '{"ok": true}'
    assert of(deep={"type": "array", "minItems": 1, "items": {"type": "boolean"}}) == (
        '{"deep": [true]}'
    )
    assert of(ok={"type": "boolean", "default": False}) == '{"ok": false}'
    assert of(why={"type": "string", "examples": ["fine", "no"]}) == '{"why": "fine"}'
    assert of(n={"type": "integer", "default": 3}) == '{"n": 3}'
    assert of(ok={"const": False}, level={"enum": ["low"]}) == '{"ok": false, "level": "low"}'
