"""A digest of the state of globals shows each change; what it cannot show is named."""

from __future__ import annotations

import functools
import json
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import pytest

from kitaru.runtime.codec.reach import State
from kitaru.runtime.codec.stateless import is_stateless, stateless


@dataclass
class Item:
    held: Any


class Kept:
    """An object of the module's own class, which no frame can hold."""

    def __init__(self) -> None:
        self.lock = object()
        self.count = 0


class Odd(Kept):
    def __new__(cls) -> Odd:
        return super().__new__(cls)


class Agent:
    made = 0
    seen: list[int] = []  # noqa: RUF012

    class Inner:
        tags: dict[str, int] = {}  # noqa: RUF012

    @staticmethod
    def gather(value: int, into: list[int] = []) -> None:  # noqa: B006
        into.append(value)

    def run(self) -> int:
        return 1


class Tool:
    """Calls a function, whose name it takes, and counts how often."""

    def __init__(self, function: Callable[[], None]) -> None:
        functools.update_wrapper(self, function)
        self.calls = 0


def helper() -> None:
    """Stand for a function of the project."""


@Tool
def tool() -> None:
    """Stand for a decorated one."""


def gathering(value: Any, into: list[Any] = []) -> list[Any]:  # noqa: B006
    return [*into, value]


def counting() -> Callable[[], int]:
    count = 0

    def call() -> int:
        nonlocal count
        count += 1
        return count

    return call


def digests(**names: Any) -> dict[str, str]:
    """Return a digest per global, as the process of a step takes them."""
    state = State(exact=False, follow=False)
    return {name: state.section(value, name) for name, value in names.items()}


def test_changes_of_values() -> None:
    names: dict[str, Any] = {
        "COUNT": 1, "REG": {"f": helper, "x": [1]}, "helper": helper, "Item": Item,
        "json": json, "client": object(), "odd": [object(), 1], "same": [1],
    }  # fmt: skip
    before = digests(**names)
    assert digests(**names) == before
    names["REG"]["x"].append(2)
    names["COUNT"] += 1
    names["odd"].append(2)
    after = digests(**names)
    assert {key for key in before if before[key] != after[key]} == {"COUNT", "REG", "odd"}


def test_changes_of_what_is_large() -> None:
    table = [{"id": number, "tags": [number]} for number in range(20_000)]
    part = table[7]["tags"]
    before = digests(table=table, part=part)
    assert digests(table=table, part=part) == before
    table[3]["id"] = -1
    assert digests(table=table, part=part)["table"] != before["table"]
    table[3]["id"] = 3
    table[7]["tags"] = [7]  # equal, and no longer the same list as the other global
    assert digests(table=table, part=part) != before


def test_what_two_globals_share_counts() -> None:
    one: list[int] = []
    before = digests(a=one, b=[])
    assert digests(a=one, b=[]) == before
    assert digests(a=one, b=one) != before


def test_what_has_too_many_parts_is_opaque() -> None:
    state = State(exact=False, follow=False)
    things = [object() for _ in range(20_000)]
    state.section(things, "things")
    assert state.unknown.keys() == {id(things)} and not state.complete
    # What comes after it counts as if it had not been there.
    assert state.section(things[0], "thing") == State(follow=False).section(things[0], "thing")


def replace_method() -> None:
    Agent.run = lambda self: 2  # type: ignore[method-assign]


counter = counting()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("kept", lambda names: setattr(names["kept"], "count", 1)),
        ("odd", lambda names: setattr(names["odd"], "count", 1)),
        ("tool", lambda names: setattr(names["tool"], "calls", 1)),
        ("f", lambda _: gathering.__defaults__[0].append(1)),  # type: ignore[index]
        ("f", lambda _: setattr(gathering, "calls", 1)),
        ("counter", lambda _: counter()),
        ("Agent", lambda _: setattr(Agent, "made", 1)),
        ("Agent", lambda _: Agent().seen.append(1)),
        ("Agent", lambda _: Agent.Inner.tags.update(a=1)),
        ("Agent", lambda _: Agent.gather(1)),
        ("Agent", lambda _: replace_method()),
    ],
)
def test_changes_of_what_code_keeps(name: str, change: Callable[[Any], None]) -> None:
    names: dict[str, Any] = {
        "kept": Kept(), "odd": Odd(), "tool": tool, "f": gathering, "counter": counter,
        "Agent": Agent, "helper": helper,
    }  # fmt: skip
    before = digests(**names)
    change(names)
    after = digests(**names)
    assert {key for key in before if before[key] != after[key]} == {name}


def test_what_libraries_keep_does_not_count() -> None:
    # A function of its own, which no other test sees.
    wrapper = FunctionType(json.dumps.__code__, vars(json))
    retried = functools.wraps(helper)(wrapper)
    before = digests(retried=retried, Decoder=json.JSONDecoder)
    retried.statistics = {"attempts": 1}  # type: ignore[attr-defined]
    assert digests(retried=retried, Decoder=json.JSONDecoder) == before


def test_a_declared_object_is_not_kept() -> None:
    class Client: ...

    client, plain = stateless(Client()), stateless([])
    gone = weakref.ref(client)
    assert is_stateless(client) and is_stateless(plain)
    del client
    assert gone() is None
    assert not is_stateless(Client()), "the next object at its place has state"
