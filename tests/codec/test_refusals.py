"""What would not come back the same is refused, with the path that leads to it."""

from __future__ import annotations

import datetime as dt
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from kitaru.errors import ValueNotEncodable
from kitaru.runtime.codec import encode


@dataclass
class Report:
    client: Any
    other: Any = 1


class Model(BaseModel):
    inner: Any


class Pair(NamedTuple):
    left: Any
    right: Any


class MyList(list[int]):
    """A list that is more than one."""


class MyDate(dt.date):
    """A date that is more than one."""


class Session:
    """Ends what it holds when it is gone."""

    def __del__(self) -> None:
        """Close what is open."""


class Reduced:
    def __reduce__(self) -> str:
        return "reduced"


class OfReduced(Reduced):
    """Inherits how its objects are copied."""


class Single:
    def __new__(cls) -> Single:
        return super().__new__(cls)


class OnlyOne(type):
    def __call__(cls, *args: Any) -> Any:
        return super().__call__(*args)


class Metered(metaclass=OnlyOne):
    """Hands out its objects in its own way."""


class Client(HTTPConnection):
    """Adds nothing to a library's class, about which nothing is known."""


class Memo(dict[str, int]):
    """A container with state beside its own."""


class Disguised:
    __dict__ = {}


class Twice:
    __slots__ = ("held",)


class Shadowing(Twice):
    __slots__ = ("held",)


class Thread(threading.local):
    """What it holds depends on who asks."""


@dataclass
class DictLike(dict[str, int]):
    """A dataclass with a container's state beside its own."""

    a: int = 1


@dataclass(frozen=True)
class Fussy:
    """Hashes by what is not there yet while a cycle is built."""

    peers: Any

    def __hash__(self) -> int:
        return hash(len(self.peers))


LOCK = threading.Lock()


def local_function() -> Any:
    return lambda: 1


def local_class() -> Any:
    class Inside:
        pass

    return Inside


def generator() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (LOCK, "result"),
        ([1, [LOCK]], "result[1][0]"),
        ({"items": [0, 1, 2, Report(LOCK)]}, 'result["items"][3].client'),
        ({"a": {1: LOCK}}, 'result["a"][1]'),
        ({"é": LOCK}, 'result["é"]'),
        ({"\ud800": LOCK}, "result['\\ud800']"),
        ({(1, "x"): LOCK}, "result[(1, 'x')]"),
        ({(1, local_function()): 1}, "result.keys()[0][1]"),
        ({frozenset([local_class()])}, "result{…}{…}"),
        (Model(inner=(1, LOCK)), "result.inner[1]"),
        (Pair(1, [LOCK]), "result.right[0]"),
        (Report(1, other=iter([])), "result.other"),
        (slice(1, LOCK), "result.stop"),
        ((generator(), 1), "result[0]"),
        (zip([1], [2], strict=True), "result"),
        ({}.keys(), "result"),
        (partial(print, 1), "result"),
        (MyList([1]), "result"),
        (MyDate(2026, 1, 1), "result"),
        (Session(), "result"),
        (Reduced(), "result"),
        (OfReduced(), "result"),
        (Single(), "result"),
        (Metered(), "result"),
        (Client("localhost"), "result"),
        (Memo(), "result"),
        (Disguised(), "result"),
        (Shadowing(), "result"),
        (Thread(), "result"),
        (HTTPConnection("localhost"), "result"),
        (SimpleNamespace(a=LOCK), "result.a"),
        (object(), "result"),
        (DictLike(), "result"),
        (local_class()(), "result"),
        (LOCK.acquire, "result"),
        ([Report(LOCK).__repr__], "result[0].__self__.client"),
        (memoryview(b"x"), "result"),
        (ValueError("x"), "result"),
        (dt.datetime(2026, 1, 1, tzinfo=type("Zone", (dt.tzinfo,), {})()), "result.tzinfo"),
    ],
)
def test_refused_with_path(value: Any, path: str) -> None:
    with pytest.raises(ValueNotEncodable) as caught:
        encode(value, where="result")
    assert caught.value.path == path
    assert path in caught.value.message
    assert caught.value.help


def test_subclass_state_of_library_containers() -> None:
    odd: Any = OrderedDict(a=1)
    odd.note = "lost"
    with pytest.raises(ValueNotEncodable):
        encode(odd)


def test_names_must_lead_back() -> None:
    def impostor() -> None:
        """Claim another function's name."""

    impostor.__qualname__ = "local_function"
    with pytest.raises(ValueNotEncodable, match="recorded exactly"):
        encode(impostor)


def test_hash_that_needs_the_whole_object_on_a_cycle() -> None:
    one = Fussy([])
    object.__setattr__(one, "peers", (frozenset([one]),))
    with pytest.raises(ValueNotEncodable, match="hashed"):
        encode(one)


def test_advice_fits() -> None:
    cases = {
        "list(...)": generator(),
        "at the top level of a module, so that it can be recorded": local_class(),
        "its class at the top level": local_class()(),
        "plain list": MyList(),
        "project's own": Session(),
    }
    for words, value in cases.items():
        with pytest.raises(ValueNotEncodable) as caught:
            encode(value)
        assert words in caught.value.help


def test_long_paths_of_deep_values() -> None:
    value: Any = LOCK
    for _ in range(5000):
        value = [value]
    with pytest.raises(ValueNotEncodable) as caught:
        encode(value, where="x")
    assert caught.value.path == "x" + "[0]" * 5000
