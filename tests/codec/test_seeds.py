"""Equal values have equal digests in processes whose hashes differ."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, Flag
from typing import Any

import attrs
import numpy
import pandas
from pydantic import BaseModel

from kitaru.runtime import codec
from kitaru.wire import canonical

SEEDS = ("0", "1", "4242")
# Whatever order they have in a process.
WORDS = [f"word {number}" for number in range(40)]


class Colour(Enum):
    RED = 1
    BLUE = 2


class Bits(Flag):
    A = 1
    B = 2


@dataclass(frozen=True)
class Point:
    x: Any
    y: Any


@attrs.frozen(cache_hash=True)
class Kept:
    of: Any


class Model(BaseModel):
    name: str
    tags: set[str] = set()


def examples() -> dict[str, Any]:
    hashed = Kept("text")
    hash(hashed)
    return {
        "set of texts": set(WORDS),
        "frozenset of tuples": frozenset((word, number) for number, word in enumerate(WORDS)),
        "set of everything plain": {*WORDS, 1, 2.5, None, b"bytes", (1, "a"), float("nan")},
        "sets in a dict": {word: {word, "other"} for word in WORDS},
        "dict with tuple keys": {(word, 1): [word] for word in WORDS},
        "enum members": {Colour.RED, Colour.BLUE, Bits.A},
        "flags": [Bits.A | Bits.B, Colour.BLUE],
        "dataclass": Point({"a", "b", "c"}, {"k": Point(1, frozenset(WORDS))}),
        "attrs": [hashed, Kept(frozenset(WORDS))],
        "pydantic": Model(name="m", tags=set(WORDS)),
        "dates": {date(2026, 11, 22): datetime(2026, 11, 22, tzinfo=UTC), "d": Decimal("1.50")},
        "numpy": [numpy.arange(6).reshape(2, 3).T, numpy.float32(1.5), numpy.array(["a", "bc"])],
        "pandas": pandas.DataFrame({"n": [1, 2], "t": ["a", None]}, index=["x", "y"]),
        "pandas series": pandas.Series([1.5, 2.5], name="s"),
    }


def digests() -> dict[str, list[str]]:
    """Return the digests of each example as an argument and as a result."""
    return {
        name: [
            codec.digest_arguments((value,), {"by_name": value}).digest,
            canonical.digest(codec.encode(value, parts=True)),
        ]
        for name, value in examples().items()
    }


# The order of sets of objects differs between processes. As arguments, they are still equal.
BY_CONTENT = "set of objects"


def started(seed: str) -> subprocess.Popen[str]:
    program = "import json, tests.codec.test_seeds as t; print(json.dumps(t.told()))"
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": seed},
        stdout=subprocess.PIPE,
        text=True,
    )


def told() -> dict[str, list[str]]:
    points = {Point(word, 1) for word in WORDS}
    return {**digests(), BY_CONTENT: [codec.digest_arguments((points,), {}).digest]}


def test_digests_are_equal_under_every_hash_seed() -> None:
    processes = [started(seed) for seed in SEEDS]
    first, *others = [json.loads(process.communicate()[0]) for process in processes]
    assert len(first) == len(examples()) + 1
    for other in others:
        assert {name for name in first if first[name] != other[name]} == set()
