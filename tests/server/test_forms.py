"""The form of each schema sends what was filled in, and refuses what does not fit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import escape
from pydantic import BaseModel, Field, TypeAdapter

pytest.importorskip("fastapi")

from kitaru.server.pages import render
from kitaru.server.pages.forms import ABSENT, Form

from .browser_forms import sent


def page_of(form: Form) -> str:
    template = '{% import "ui.html" as ui with context %}<form>{{ ui.control(root) }}</form>'
    return render.environment().from_string(template).render(root=form.root)


def filled(schema: Any, value: Any) -> Form:
    """Return the form of a value, sent by a browser without a change."""
    [fields] = sent(page_of(Form(schema, initial=value)))
    return Form(schema, fields)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Change(BaseModel):
    clause: str
    text: str = Field("", description="What it shall say instead.")
    must: bool = False


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class Decision(BaseModel):
    verdict: Literal["approve", "request changes", "reject"]
    changes: list[Change] = []
    limit: int = Field(50_000, ge=0, le=250_000)
    sign_by: date | None = None
    note: str | None = None


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    barks: bool


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


@dataclass
class Point:
    x: float
    y: float = 0.0


CORPUS: list[tuple[Any, Any]] = [
    (bool, True),
    (bool, False),
    (bool | None, None),
    (int, -12),
    (int | None, None),
    (int, 10**30),
    (float, 12.5),
    (str, "two\nlines and a \u202e trick <b>"),
    (str, ""),
    (str | None, None),
    (Annotated[str, Field(max_length=20)], "short"),
    (Literal["a", "b"], "b"),
    (Literal[1, True, "1"], "1"),
    (Literal[1, True, "1"], True),
    (Colour, Colour.BLUE),
    (Colour | None, None),
    (date, date(2026, 11, 30)),
    (time, time(9, 30)),
    (Decimal, Decimal("12.5")),
    (Decimal, Decimal("0.12345678901234567890123456789")),
    (list[int], [1, 2, 3]),
    (list[int], []),
    (list[str] | None, None),
    (list[str] | None, []),
    (list[Change], [Change(clause="7", text="a\nb", must=True), Change(clause="")]),
    (tuple[int, str], (1, "x")),
    (set[Literal["a", "b", "c"]], {"a", "c"}),
    (dict[str, int], {"a": 1, "b c": 2}),
    (dict[str, Any], {"a": [1, None], "b": {"c": "d"}}),
    (dict[str, list[int]], {"a": [], "b": [1]}),
    (Decision, Decision(verdict="reject")),
    (
        Decision,
        Decision(
            verdict="request changes",
            changes=[Change(clause="1")],
            sign_by=date(2027, 1, 1),
            note="x",
        ),
    ),
    (Tree, Tree(name="a", children=[Tree(name="b", children=[Tree(name="c")])])),
    (Dog | Cat, Cat(lives=9)),
    (Annotated[Dog | Cat, Field(discriminator="kind")], Dog(barks=True)),
    (int | str, "text"),
    (int | list[int], [1]),
    (Point, Point(1.5)),
    (Any, {"x": [1, "two", None]}),
    (list[list[list[list[int]]]], [[[[1]]]]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), CORPUS, ids=range(len(CORPUS)))
def test_a_value_that_is_filled_in_is_sent(kind: Any, value: Any) -> None:
    adapter = TypeAdapter(kind)
    dumped = json.loads(adapter.dump_json(value))
    form = filled(adapter.json_schema(), dumped)
    assert form.errors == []
    assert adapter.validate_json(json.dumps(form.value)) == value


def test_a_moment_is_sent_in_utc() -> None:
    schema = TypeAdapter(datetime).json_schema()
    assert filled(schema, "2026-11-30T10:00:00Z").value == "2026-11-30T10:00:00Z"
    assert Form(schema, {"v": ["2026-11-30T10:00"]}).value == "2026-11-30T10:00Z"


def test_defaults_are_filled_in_and_empty_optional_fields_left_out() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "default": 3},
            "b": {"type": "string"},
            "c": {"type": "integer"},
            "d": {"type": "string", "default": "text"},
        },
    }
    [fields] = sent(page_of(Form(schema)))
    assert Form(schema, fields).value == {"a": 3, "d": "text"}
    # A text that a person has emptied is empty, not the default.
    assert Form(schema, fields | {"v.3": [""]}).value == {"a": 3, "d": ""}


@pytest.mark.parametrize(
    ("schema", "posted", "at"),
    [
        ({"type": "boolean"}, {}, "v"),
        ({"type": "integer"}, {"v": ["1_000"]}, "v"),
        ({"type": "integer"}, {"v": ["1.5"]}, "v"),
        ({"type": "number"}, {"v": ["NaN"]}, "v"),
        ({"type": "number"}, {"v": ["1e999"]}, "v"),
        ({"type": "number"}, {"v": ["1" + "0" * 400]}, "v"),
        ({"type": "integer", "maximum": 3}, {"v": ["4"]}, "v"),
        ({"type": "string", "minLength": 2}, {"v": ["a"]}, "v"),
        ({"type": "string", "format": "date"}, {"v": ["tomorrow"]}, "v"),
        ({}, {"v": ["{"]}, "v"),
        ({}, {"v": ["[" * 100_000]}, "v"),
        ({"enum": ["a"]}, {"v": ["7"]}, "v"),
        (
            {"type": "array", "items": {"type": "integer", "maximum": 3}},
            {"v#": ["x", "y"], "v.x": ["1"], "v.y": ["9"]},
            "v.y",
        ),
        (
            {"type": "object", "additionalProperties": {"type": "integer"}},
            {"v#": ["0", "1"], "v.0.k": ["a"], "v.0.v": ["1"], "v.1.k": ["a"], "v.1.v": ["2"]},
            "v.1.k",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "object", "required": ["b"],
             "properties": {"b": {"type": "integer", "minimum": 5}}}}, "required": ["a"]},
            {"v.0.0": ["4"]},
            "v.0.0",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
             "dependentRequired": {"a": ["b"]}},
            {"v.0": ["1"]},
            "v",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_marked_at_its_control(schema: Any, posted: Any, at: str) -> None:
    form = Form(schema, posted)
    assert form.value is ABSENT
    assert [control.name for control in form.errors] == [at]
    html = page_of(form)
    assert f'id="{at}-wrong"' in html
    # What was typed is still there.
    if at in posted and not form.errors[0].choices:
        assert escape(posted[at][0]) in html


def test_items_are_added_and_removed_without_a_script() -> None:
    schema = {"type": "array", "items": {"type": "string"}}
    form = Form(schema, {"add": ["v"]})
    assert form.is_changed and form.value is ABSENT and form.errors == []
    [fields] = sent(page_of(form))
    assert fields == {"v#": ["0"], "v.0": [""]}
    [fields] = sent(page_of(Form(schema, fields | {"v.0": ["a"], "add": ["v"]})))
    assert fields == {"v#": ["0", "1"], "v.0": ["a"], "v.1": [""]}
    [fields] = sent(page_of(Form(schema, fields | {"v.1": ["b"], "remove": ["v.0"]})))
    assert Form(schema, fields).value == ["b"]


def test_the_declared_order_of_properties_is_kept() -> None:
    schema = TypeAdapter(Decision).json_schema()
    keys = [one.key for one in Form(schema).root.children]
    assert keys == ["verdict", "changes", "limit", "sign_by", "note"]


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        {"$ref": "https://example.com/schema"},
        {"type": "object", "properties": {"a": {"$ref": "#"}}},
        {"anyOf": []},
        {"type": []},
        {"enum": "abc"},
        {"type": "array", "items": True},
        True,
        False,
        None,
    ],
)
def test_a_strange_schema_has_a_form_for_json(schema: Any) -> None:
    html = page_of(Form(schema))
    assert "<textarea" in html


PARTS: dict[str, Any] = {
    "type": st.sampled_from(["string", "integer", "object", "array", "null", "boolean", "number"]),
    "enum": st.lists(st.sampled_from([1, True, None, "a", 1.5, [], {}]), min_size=1, max_size=4),
    "default": st.sampled_from([1, None, "x", [], {}, [1], {"a": 1}]),
    "maxLength": st.integers(0, 100),
    "format": st.sampled_from(["date", "date-time", "email", "uri", "phone"]),
    "title": st.text(max_size=5),
    "required": st.lists(st.sampled_from(["a", "b"]), max_size=2),
    "uniqueItems": st.booleans(),
}


def extend(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    nested: dict[str, Any] = {
        "properties": st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
        "items": inner,
        "prefixItems": st.lists(inner, max_size=2),
        "anyOf": st.lists(inner, max_size=3),
        "additionalProperties": inner,
    }
    return st.fixed_dictionaries({}, optional=PARTS | nested)


SCHEMAS = st.recursive(st.fixed_dictionaries({}, optional=PARTS), extend, max_leaves=6)


@settings(max_examples=60, deadline=None)
@given(SCHEMAS, st.dictionaries(st.from_regex(r"v(\.[0-2]){0,3}[#?]?", fullmatch=True),
       st.lists(st.text(max_size=4), min_size=1, max_size=2), max_size=6))  # fmt: skip
def test_any_schema_and_any_fields_give_a_form(schema: Any, posted: dict[str, list[str]]) -> None:
    page_of(Form(schema))
    form = Form(schema, posted)
    page_of(form)
    assert (form.value is ABSENT) == bool(form.errors)
