"""A struct behaves like a frozen dataclass."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import pprint
from typing import Any

import pytest

from kitaru.runtime import codec
from kitaru.wire.structs import Struct, field, fields_of, replace


class Point(Struct):
    x: int
    y: int = 0
    marks: list[str] = field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Twin:
    x: int
    y: int = 0
    marks: list[str] = dataclasses.field(default_factory=list)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((1,), {}),
        ((1, 2, ["a"]), {}),
        ((), {"y": 2, "x": 1}),
        ((), {}),
        ((), {"y": 1}),
        ((1, 2, [], 4), {}),
        ((1,), {"x": 1}),
        ((1,), {"z": 1}),
        ((1, 2, []), {"z": 1}),
    ],
)
def test_is_made_like_a_dataclass(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        expected = dataclasses.asdict(Twin(*args, **kwargs))
    except TypeError:
        with pytest.raises(TypeError, match="Point"):
            Point(*args, **kwargs)
    else:
        assert fields_of(Point(*args, **kwargs)) == expected


def test_defaults_that_can_change_are_not_shared() -> None:
    assert Point(1).marks is not Point(1).marks


def test_cannot_be_changed() -> None:
    point = Point(1)
    with pytest.raises(AttributeError, match="x of Point cannot be set"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match="x of Point cannot be deleted"):
        del point.x
    assert replace(point, x=2) == Point(2) != point
    assert hash(replace(point, marks=())) == hash(Point(1, 0, ()))  # type: ignore[arg-type]
    assert repr(point) == "Point(x=1, y=0, marks=[])"


def test_python_takes_it_for_a_dataclass() -> None:
    point = Point(1, 2, ["a"])
    assert dataclasses.is_dataclass(point)
    assert Point.__dataclass_fields__ is point.__dataclass_fields__
    assert dataclasses.asdict(point) == {"x": 1, "y": 2, "marks": ["a"]}
    assert dataclasses.replace(point, y=3) == Point(1, 3, ["a"])
    assert pprint.pformat([point] * 9, width=20).count("marks") == 9
    match point:
        case Point(x, y):
            assert (x, y) == (1, 2)


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda p: pickle.loads(pickle.dumps(p)),
        lambda p: codec.decode(codec.encode(p)),
    ],
)
def test_comes_back_from_a_copy_a_pickle_and_a_record(copied: Any) -> None:
    point = Point(1, 2, ["a"])
    assert copied(point) == point
    assert copied(point).marks is not point.marks
