"""A result is shown as JSON without importing the classes in it."""

from __future__ import annotations

import enum
import json
from collections import namedtuple
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import pydantic
import pytest

from kitaru.runtime import codec
from kitaru.runtime.journal.to_json import as_json


@dataclass
class Brief:
    title: str
    parts: list[Any]


class Review(pydantic.BaseModel):
    ok: bool
    brief: Brief


class Colour(enum.Enum):
    RED = 1


Pair = namedtuple("Pair", "left right")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        ({"b": 1, "a": [True, 1.5]}, {"b": 1, "a": [True, 1.5]}),
        ((1, ("x",)), [1, ["x"]]),
        ({1: "one", (2, 3): {4}}, {"1": "one", "[2, 3]": [4]}),
        (Brief("t", [(1,)]), {"title": "t", "parts": [[1]]}),
        (
            Review(ok=True, brief=Brief("t", [])),
            {"ok": True, "brief": {"title": "t", "parts": []}},
        ),
        ([Pair(1, 2), Colour.RED], [[1, 2], "RED"]),
        ([date(2026, 11, 22), Decimal("1.50"), float("inf")], ["2026-11-22", "1.50", "inf"]),
        (("é" * 300, b"ab"), ["é" * 300, "YWI="]),
        ({"$kitaru": 1}, {"$kitaru": 1}),
    ],
)
def test_values_read_well(value: Any, shown: Any) -> None:
    document = json.loads(json.dumps(codec.encode(value)))
    found = as_json(document)
    assert found == shown
    json.dumps(found, allow_nan=False)


def test_cycles_and_depth_end() -> None:
    cycle: list[Any] = [1]
    cycle.append(cycle)
    assert as_json(codec.encode(cycle)) == [1, "…"]
    deep: Any = ()
    for _ in range(5000):
        deep = (deep,)
    assert "…" in json.dumps(as_json(codec.encode(deep)), ensure_ascii=False)
