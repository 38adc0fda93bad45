"""JSON for inputs is as strict inside a type as it is for a plain one, and always finite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, BeforeValidator

from kitaru.errors import InputError
from kitaru.runtime.engine import inputs


class Level(Enum):
    LOW = "low"


@dataclass
class Point:
    x: int
    when: date | None = None


class Order(BaseModel):
    count: int


def taking(annotation: Any) -> Callable[..., Any]:
    def function(x: Any) -> Any:
        return x

    function.__annotations__ = {"x": annotation}
    return function


def read(annotation: Any, value: Any) -> Any:
    return inputs.bind_json("main", taking(annotation), {"x": value}).arguments["x"]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int | None, True),
        (int | None, "5"),
        (int | None, 1.0),
        (list[int], ["1"]),
        (list[int], [2.0]),
        (list[int], [True]),
        (dict[str, int], {"a": "1"}),
        (dict[str, list[int]], {"a": [True]}),
        (tuple[int, str], [True, "a"]),
        (set[int], ["1"]),
        (list[float], [True]),
        (list[bool], [1]),
        (bool | None, "yes"),
        (Union[int, float], True),  # noqa: UP007
        (Point, {"x": "1"}),
        (Order, {"count": "1"}),
        (list[Order], [{"count": True}]),
    ],
)
def test_nothing_inside_a_type_is_converted(annotation: Any, value: Any) -> None:
    with pytest.raises(InputError, match="x"):
        read(annotation, value)


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int | None, 5, 5),
        (int | None, None, None),
        (list[float], [1], [1.0]),
        (list[int], [2**70], [2**70]),
        (dict[int, str], {"1": "a"}, {1: "a"}),
        (dict[Level, int], {"low": 1}, {Level.LOW: 1}),
        (tuple[int, str], [1, "a"], (1, "a")),
        (Path | None, "/a", Path("/a")),
        (Point, {"x": 1, "when": "2021-06-30"}, Point(1, date(2021, 6, 30))),
        (Order, {"count": 1}, Order(count=1)),
        (datetime, "2021-06-30", datetime(2021, 6, 30)),
        (timedelta, 60, timedelta(minutes=1)),
        (list[timedelta], ["PT1M", 60], [timedelta(minutes=1)] * 2),
        (str | None, "\ud800", "\ud800"),
        (
            Annotated[list[str], BeforeValidator(lambda s: s.split(","))],
            "a,b",
            ["a", "b"],
        ),
    ],
)
def test_what_json_has_no_type_for_is_still_made(
    annotation: Any, value: Any, expected: Any
) -> None:
    found = read(annotation, value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("annotation", "around"),
    [(float, lambda n: n), (Any, lambda n: n), (list[float], lambda n: [1.0, n])],
)
def test_a_number_that_is_not_finite_is_refused_by_the_name_of_its_input(
    number: float, annotation: Any, around: Callable[[float], Any]
) -> None:
    with pytest.raises(InputError, match=r"the input x holds .* not finite"):
        read(annotation, around(number))


def test_an_integer_beyond_the_largest_float_is_no_float() -> None:
    with pytest.raises(InputError, match="largest float"):
        read(float, 10**400)


PLAIN: dict[Any, Callable[[Any], bool]] = {
    int: lambda v: type(v) is int,
    float: lambda v: type(v) in (int, float),
    bool: lambda v: type(v) is bool,
    str: lambda v: type(v) is str,
}
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "5", "1.0", "true", "a"]),
)
ANNOTATIONS = st.recursive(
    st.sampled_from([int, float, bool, str]),
    lambda inner: st.one_of(
        inner.map(lambda t: list[t]),
        inner.map(lambda t: dict[str, t]),
        inner.map(lambda t: t | None),
    ),
    max_leaves=3,
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=4,
)


def fits(value: Any, annotation: Any) -> bool:
    """Return the meaning of one strictness, from its definition."""
    if annotation in PLAIN:
        return PLAIN[annotation](value)
    origin, parts = getattr(annotation, "__origin__", None), annotation.__args__
    if origin is list:
        return type(value) is list and all(fits(item, parts[0]) for item in value)
    if origin is dict:
        return type(value) is dict and all(fits(item, parts[1]) for item in value.values())
    return any(value is None if p is type(None) else fits(value, p) for p in parts)


@settings(max_examples=300, deadline=None)
@given(ANNOTATIONS, VALUES)
def test_a_call_and_json_accept_the_same_and_make_the_same(annotation: Any, value: Any) -> None:
    expected = fits(value, annotation)

    def called() -> Any:
        return inputs.bind("main", taking(annotation), (value,), {}).arguments["x"]

    for way in (called, lambda: read(annotation, value)):
        if expected:
            assert way() == value
        else:
            with pytest.raises(InputError):
                way()
