"""The offline model answers in the shape that was asked for."""

from __future__ import annotations

import json
from datetime import date, datetime, time, timedelta
from enum import Enum
from typing import Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from kitaru.runtime.llm.offline import offline_text
from kitaru.runtime.schema.validate import problem


class Tone(Enum):
    WARM = "warm"


class Inner(BaseModel):
    on: bool
    tone: Tone


class Outer(BaseModel):
    text: str = Field(max_length=30)
    number: int = Field(ge=3)
    ratio: float = Field(gt=1)
    inner: Inner
    items: list[Inner] = Field(min_length=2)
    pair: tuple[int, str]
    one: int | None
    fixed: Literal["a", "b"]
    table: dict[str, int]
    day: date
    moment: datetime
    at: time
    took: timedelta
    key: UUID
    optional: str = "default"


class Endless(BaseModel):
    below: list[Endless]


@pytest.mark.parametrize("type", [Outer, Inner, Endless, list[int], bool])
def test_it_fits(type: Any) -> None:
    schema = TypeAdapter(type).json_schema()
    found = json.loads(offline_text("x", "fast", schema))
    assert problem(found, schema) is None
    TypeAdapter(type).validate_python(found)


def test_texts_say_where_they_come_from() -> None:
    found = json.loads(offline_text("what?", "fast", {"type": "string"}))
    assert "offline model" in found and "what?" in found
