"""JSON Schema: all of draft 2020-12 is checked, and a schema that cannot be checked is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from kitaru.errors import UsageError
from kitaru.runtime.engine.questions import example, hint
from kitaru.runtime.schema.types import from_json, to_json_schema
from kitaru.runtime.schema.validate import check_schema, problem

NESTED = {
    "$defs": {"name": {"type": "string", "minLength": 2}},
    "properties": {"users": {"items": {"properties": {"first name": {"$ref": "#/$defs/name"}}}}},
}


@pytest.mark.parametrize(
    ("schema", "fits", "does_not", "reason"),
    [
        ({"multipleOf": 0.01}, 19.99, 0.001, "0.001 is not a multiple of 0.01"),
        ({"uniqueItems": True}, [1, True], [1, 1.0], "[1,1.0] has non-unique elements"),
        ({"not": {"type": "null"}}, 0, None, '{"type":"null"} is not allowed for null'),
        ({"contains": {"const": 1}}, [0, 1], [0], "None of [0] are valid under the given schema"),
        ({"type": "integer"}, 1.0, 1.5, '1.5 is not of type "integer"'),
        ({"type": "integer", "minimum": 0}, 2.0, 0.5, '0.5 is not of type "integer"'),
        ({"type": ["integer", "null"]}, None, True, "true is not of types"),
        ({"format": "date"}, "2024-02-29", "2023-02-29", '"2023-02-29" is not a "date"'),
        ({"maximum": 2**53}, 2**53, 2**53 + 1, "9007199254740993 is greater than"),
        ({"const": 10**40}, 10**40, 10**40 + 1, "was expected"),
        ({"enum": ["a", "b", "c", "d"]}, "d", "e", '"e" is not one of "a", "b", "c", "d"'),
        ({"oneOf": [{"type": "integer"}, {"minimum": 2}]}, 1, 3, "more than one"),
        ({"patternProperties": {"^n": {"type": "integer"}}}, {"x": ""}, {"n1": ""}, "n1: "),
        ({"if": {"const": 1}, "then": False}, 2, 1, "does not allow"),
        ({"dependentRequired": {"a": ["b"]}}, {"b": 1}, {"a": 1}, '"b" is a required property'),
        ({"unevaluatedProperties": False, "allOf": [{"properties": {"a": True}}]},
         {"a": 1}, {"b": 1}, "Unevaluated properties"),
        ({"propertyNames": {"maxLength": 1}}, {"a": 1}, {"ab": 1}, "is longer than 1"),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"items": {"$ref": "#/$defs/n"}, "type": "array"}}},
         [[[]]], [[[1]]], '[0][0][0]: 1 is not of type "array"'),
        (NESTED, {"users": [{"first name": "Al"}]}, {"users": [{"first name": "A"}]},
         'users[0]["first name"]: "A" is shorter than 2 characters'),
        ({"anyOf": [{"type": "integer"}, {"items": {"type": "null"}, "type": "array"}]},
         [None], [1], '[1] is not of type "integer" and [0]: 1 is not of type "null"'),
    ],
)  # fmt: skip
def test_keywords(schema: dict[str, Any], fits: Any, does_not: Any, reason: str) -> None:
    check_schema(schema, "the wait")
    assert problem(fits, schema) is None
    assert reason in str(problem(does_not, schema))


def test_a_long_value_is_cut_and_only_the_first_reasons_are_given() -> None:
    reasons = problem(["x" * 100] * 5, {"items": {"type": "integer"}})
    assert reasons is not None and len(reasons) < 400
    assert reasons.endswith("; and more") and reasons.startswith('[0]: "xxx')


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        ({"type": "strng"}, '"type"'),
        ({"properties": {"a": {"minimum": "3"}}}, '"minimum" at properties.a.minimum'),
        ({"items": [{}]}, '"items"'),
        ({"properties": {"a": {"$ref": "#/$defs/missing"}}}, '"$ref"'),
        ({"$ref": "https://example.com/schema.json"}, '"$ref"'),
        ({"$schema": "https://example.com/dialect"}, '"$schema"'),
        ({"type": "string", "format": "phone"}, '"format"'),
        ({"pattern": "["}, '"pattern"'),
        ({"patternProperties": {"[": {}}}, '"patternProperties"'),
        ({"type": "string", "nullable": True}, '"nullable"'),
        ({"prefixItems": [{}], "additionalItems": False}, '"additionalItems"'),
        ({"type": "string", "minlength": 3}, 'use "minLength"'),
        ({"properties": {"a": {"max_items": 3}}}, '"max_items" at properties.a.max_items'),
        ({"type": "object", "requried": ["a"]}, 'use "required"'),
        ({"const": float("nan")}, "cannot be honoured"),
        ({"const": {1: 2}}, "keys of JSON objects"),
        ({"enum": [b"x"]}, "cannot be honoured"),
        ({"enum": ["\ud800"]}, "cannot be honoured"),
        ({"enum": []}, "fits no value"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "fits no value"),
        ({"required": ["a"], "properties": {"a": False}, "type": "object"}, "fits no value"),
    ],
)
def test_a_schema_that_cannot_be_honoured_is_refused(schema: dict[str, Any], keyword: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_schema(schema, 'the wait "w"')
    assert keyword in refused.value.message and 'the wait "w"' in refused.value.message


@pytest.mark.parametrize(
    "schema",
    [
        {"const": {"minlength": 3, "nullable": True}},
        {"properties": {"minlength": {}, "nullable": {}}},
        {"enum": [1], "x-order": 2, "example": 1, "widget": "radio"},
        {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{}]},
        {"$id": "https://example.com/a", "$defs": {"b": {"$id": "b"}}, "$ref": "b"},
        {"type": "string", "title": "A name"},
    ],
)
def test_what_only_looks_like_a_mistake_is_taken(schema: dict[str, Any]) -> None:
    check_schema(schema, "the wait")


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"^(a+)+$", "a" * 50_000 + "!"),
        (r"^(\w+\s?)*$", "a " * 25_000 + "!"),
        (r"(a*)*\1$", "a" * 5_000 + "!"),
        (r"^(([a-z])+.)+[A-Z]([a-z])+$(?<!x)", "a" * 5_000),
        (r"^(?=(a+)+$)(?!x)b", "a" * 50_000 + "!"),
    ],
)
@pytest.mark.timeout(20)
def test_no_pattern_hangs_the_process(pattern: str, text: str) -> None:
    """Python's own engine needs years for each; a refusal says why where the search was ended."""
    asked = {"pattern": pattern}
    check_schema(asked, "the wait")
    assert problem(text, asked) is not None
    # What takes too long is no proof of the contrary either.
    if "takes too long" in str(problem(text, asked)):
        assert "takes too long" in str(problem(text, {"not": asked}))
        assert "takes too long" in str(problem({text: 1}, {"patternProperties": {pattern: False}}))


def test_references_that_only_refer_to_each_other_end() -> None:
    assert problem(1, {"$ref": "#"}) is None
    assert (
        problem(1, {"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"})
        is None
    )


class Color(Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


class Item(BaseModel):
    name: str = Field(min_length=1, alias="itemName")
    price: Decimal = Field(max_digits=8, decimal_places=2)
    color: Color
    at: datetime
    took: timedelta | None = None
    parts: list[Item] = []


ITEM = Item(itemName="a", price="1.50", color="red", at=datetime(2024, 5, 1, 12), took=timedelta(1))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (datetime, datetime(2024, 5, 1, 12)),
        (datetime, datetime(2024, 5, 1, 12, tzinfo=UTC)),
        (time, time(12, 30)),
        (date, date(2024, 5, 1)),
        (timedelta, timedelta(seconds=-1.5)),
        (timedelta, timedelta(days=3, seconds=1, microseconds=5)),
        (UUID, UUID(int=5)),
        (Decimal, Decimal("-1.50")),
        (Annotated[Decimal, Field(max_digits=4, decimal_places=2)], Decimal("12.5")),
        (Path, Path("/a/b")),
        (IPv4Address, IPv4Address("127.0.0.1")),
        (bytes, b"abc"),
        (Color, Color.RED),
        (Literal["a", 1, True], True),
        (Literal[Color.RED], Color.RED),
        (Point, Point(1, 2)),
        (tuple[int, str], (1, "a")),
        (set[int], {1, 2}),
        (dict[date, float], {date(2024, 5, 1): 1.5}),
        (int | None, None),
        (list[int], [2**53 + 1]),
        (Item, ITEM),
        (Item, ITEM.model_copy(update={"parts": [ITEM]})),
    ],
)
def test_each_type_has_a_schema_that_its_own_values_fit(kind: Any, value: Any) -> None:
    """A wait that no answer fits cannot be ended; pydantic writes the answer, its schema checks."""
    written = TypeAdapter(kind).dump_python(value, mode="json", by_alias=True)
    schema = to_json_schema(kind)
    check_schema(schema, "the wait", of_type=True)
    assert problem(written, schema) is None
    assert from_json(json.loads(json.dumps(written)), kind, "w") == value
    assert problem({"no": ["such", object.__name__]}, schema) is not None
    assert hint(schema) and example(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://json-schema.org/draft/2020-12/schema"},
        {"$ref": "#name", "$defs": {"n": {"$anchor": "name", "type": "string"}}},
        {"anyOf": [True, {"type": "string"}]},
        {"type": "array", "minItems": 10**12},
        {"type": "array", "minItems": 2.0, "items": {"type": "string", "maxLength": 2.0}},
        {"type": "object", "required": ["a"], "properties": {"a": True}},
        {"allOf": [{"$ref": "#/allOf/0"}]},
    ],
)
def test_the_example_and_the_hint_exist_for_every_schema(schema: dict[str, Any]) -> None:
    assert hint(schema) and example(schema)


def test_an_integral_float_is_an_int_as_an_answer_and_none_as_an_input() -> None:
    answer = from_json(3.0, int, "w")
    assert answer == 3 and type(answer) is int
    with pytest.raises(Exception, match="float, not an int"):
        from_json(3.0, int, "n", strict=True)


def test_a_schema_that_is_only_a_type_needs_no_library() -> None:
    code = """
import sys
from kitaru.runtime.schema.types import askable_schema, check_answer
for kind, value in ((bool, True), (int, 1), (float, 1.5), (str, ""), (list, []), (dict, {})):
    check_answer(value, askable_schema(kind, "the wait"), "w")
assert "jsonschema_rs" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_library_is_named_with_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)
    with pytest.raises(Exception, match="jsonschema-rs") as missing:
        check_schema({"minimum": 3}, "the wait")
    assert "pip install 'jsonschema-rs>=" in missing.value.help  # type: ignore[attr-defined]
