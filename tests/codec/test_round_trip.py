"""Whatever is recorded comes back the same: types, values, order, sharing and cycles."""

from __future__ import annotations

import contextlib
import json
import math
import struct
from abc import ABC
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID, uuid1
from zoneinfo import ZoneInfo

import attr
import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, PrivateAttr

from kitaru.errors import FlowError, KitaruError, RecordCorrupt, RecordTooNew
from kitaru.runtime.codec import decode, encode
from kitaru.runtime.codec.decoder import Decoder
from kitaru.wire import canonical

T = TypeVar("T")


class Colour(Enum):
    RED = "red"
    CRIMSON = "red"  # noqa: PIE796
    LIST = [1]  # noqa: RUF012


class Level(IntEnum):
    LOW = 1


class Bits(Flag):
    A = 1
    B = 2


class Point(NamedTuple):
    x: Any
    y: Any = 0


@dataclass
class Node:
    name: Any
    links: list[Any] = field(default_factory=list)
    constructed = 0

    def __post_init__(self) -> None:
        type(self).constructed += 1


@dataclass(frozen=True, slots=True)
class Frozen:
    a: Any
    b: Any = None


@dataclass(frozen=True)
class Named:
    """Hashes by its name, and may hold itself."""

    name: str
    friends: set[Any] = field(default_factory=set, compare=False)


@dataclass(eq=False)
class Identity:
    around: Any = None


class Agent:
    """An ordinary class, as people write them."""

    greeting = "hello"

    def __init__(self, name: Any) -> None:
        self.name = name
        self.messages: list[Any] = []

    def say(self, text: Any) -> None:
        self.messages.append(text)


class Base(Generic[T]):
    __slots__ = ("__secret", "held")

    def __init__(self, held: T) -> None:
        self.held = held
        self.__secret = [held]


class Slotted(Base[Any]):
    """Has slots, and a dict beside them."""


class Abstract(ABC):
    """Has nothing of its own."""

    kept: Any


class Concrete(Abstract):
    @property
    def doubled(self) -> Any:
        return self.kept, self.kept

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AssertionError(f"{name} was set")


@attrs.define
class Defined:
    a: Any
    b: Any = None


@attr.s(auto_attribs=True, frozen=True, cache_hash=True, slots=False)
class Cached:
    a: str


@attrs.frozen(cache_hash=True)
class CachedInSlots:
    a: str


class Model(BaseModel):
    when: datetime
    items: list[Any] = []
    _seen: int = PrivateAttr(default=0)

    def model_post_init(self, context: Any) -> None:
        self._seen += 1


class Loose(BaseModel, extra="allow"):
    a: int = 1


def helper() -> None:
    """Stand for a function of the project."""


class Holder:
    """Stand for a class of the project."""

    class Inner:
        """Stand for a nested one."""

    @staticmethod
    def make() -> None:
        """Stand for a static method."""


def again(value: Any) -> Any:
    """Encode, write and read as a store does, decode."""
    return decode(json.loads(canonical.dumps(encode(value))))


def parts(value: Any) -> tuple[Any, list[Any]]:
    """Return what a value says by itself, and what it holds."""
    cls = type(value)
    if cls is float:
        return struct.pack(">d", value), []
    if cls is slice:
        return None, [value.start, value.stop, value.step]
    if cls is Decimal:
        return str(value), []
    if cls is complex:
        return (struct.pack(">d", value.real), struct.pack(">d", value.imag)), []
    if cls in (list, tuple, deque, Point):
        return (getattr(value, "maxlen", None), len(value)), list(value)
    if cls in (dict, OrderedDict, Counter, defaultdict):
        held = [part for item in value.items() for part in item]
        return getattr(value, "default_factory", None), held
    if cls in (set, frozenset):
        return len(value), sorted(value, key=lambda item: (str(type(item)), repr(item)))
    if cls in (Node, Named, Identity, Agent, SimpleNamespace):
        return list(vars(value)), list(vars(value).values())
    if cls in (Frozen, Defined):
        return None, [value.a, value.b]
    if cls is Slotted:
        return list(vars(value)), [value.held, value._Base__secret, *vars(value).values()]
    return value, []


MUTABLE = (
    list, dict, set, deque, bytearray, SimpleNamespace,
    Node, Identity, Named, Agent, Slotted, Defined,
)  # fmt: skip


def assert_same(left: Any, right: Any) -> None:
    """Assert that two values are equal in type and content, and share alike."""
    there: dict[int, int] = {}
    back: dict[int, int] = {}
    pending = [(left, right)]
    while pending:
        a, b = pending.pop()
        assert type(a) is type(b)
        said, held = parts(a)
        said_again, held_again = parts(b)
        assert said == said_again
        assert len(held) == len(held_again)
        if isinstance(a, MUTABLE):
            if id(a) in there:
                assert there[id(a)] == id(b) and back[id(b)] == id(a)
                continue
            assert id(b) not in back
            there[id(a)], back[id(b)] = id(b), id(a)
        pending += zip(held, held_again, strict=True)


texts = st.text(st.characters(codec=None) | st.characters(categories=["Cs"]), max_size=5)
atoms = (
    st.none() | st.booleans() | st.integers() | st.integers(-(10**20), 10**20) | st.floats() | texts
)
zones = (
    st.none()
    | st.just(UTC)
    | st.just(ZoneInfo("Europe/Zurich"))
    | st.builds(timezone, st.timedeltas(timedelta(hours=-20), timedelta(hours=20)))
)
leaves = (
    atoms
    | st.complex_numbers()
    | st.binary(max_size=5)
    | st.binary(max_size=5).map(bytearray)
    | st.datetimes(timezones=zones)
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals()
    | st.fractions()
    | st.uuids()
    | st.sampled_from([Colour.RED, Colour.LIST, Level.LOW, Bits.A, Bits.A | Bits.B, Bits(0)])
    | st.sampled_from([Path("a/b"), PurePosixPath("/x"), PureWindowsPath("c:\\x"), ...])
    | st.sampled_from([helper, Holder, Holder.Inner, Holder.make, len, math.sin, math, json, int])
    | st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 3))
)
hashable = st.recursive(
    atoms.filter(lambda a: a == a) | st.dates() | st.binary(max_size=3),
    lambda inner: (
        st.tuples(inner, inner) | st.frozensets(inner, max_size=3) | st.builds(Frozen, inner, inner)
    ),
    max_leaves=4,
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(hashable, inner, max_size=4)
        | st.dictionaries(texts, inner, max_size=4).map(OrderedDict)
        | st.sets(hashable, max_size=4)
        | st.builds(slice, inner, inner)
        | st.builds(Point, inner, inner)
        | st.builds(Node, inner, st.lists(inner, max_size=2))
        | st.builds(Frozen, inner)
        | st.builds(Agent, inner)
        | st.builds(Slotted, inner)
        | st.builds(Defined, inner, inner)
        | st.builds(SimpleNamespace, a=inner, b=inner)
        | st.lists(inner, max_size=3).map(lambda items: deque(items, 5))
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(values)
def test_trees(value: Any) -> None:
    assert_same(value, again(value))


@st.composite
def graphs(draw: st.DrawFn) -> Any:
    """A handful of objects that hold each other at random, cycles included."""
    made = [
        draw(st.sampled_from([list, dict, Node, Identity, deque, Agent, Slotted]))
        for _ in range(draw(st.integers(1, 6)))
    ]
    objects: list[Any] = [cls("n") if cls in (Node, Agent, Slotted) else cls() for cls in made]
    pool: list[Any] = [*objects]
    for _ in range(draw(st.integers(0, 5))):
        members = draw(st.lists(st.sampled_from(pool) | atoms, max_size=3))
        pool.append(tuple(members))
    for index, item in enumerate(objects):
        for other in draw(st.lists(st.sampled_from(pool) | atoms, max_size=4)):
            match item:
                case list() | deque():
                    item.append(other)
                case dict():
                    item[draw(st.integers(0, 3))] = other
                case Node():
                    item.links.append(other)
                case Agent():
                    item.say(other)
                case Slotted():
                    item.held = other
                case _:
                    item.around = (index, other)
    return draw(st.sampled_from(pool))


@settings(deadline=None)
@given(graphs())
def test_graphs(value: Any) -> None:
    assert_same(value, again(value))


@settings(deadline=None)
@given(values)
def test_documents_are_json_and_share_nothing(value: Any) -> None:
    document = encode(value)
    text = json.dumps(document, allow_nan=False, sort_keys=True)
    again(value)
    assert json.dumps(document, allow_nan=False, sort_keys=True) == text


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3).map(
            lambda d: {key: d[key] for key in sorted(d)}
        )
    ),
    max_leaves=10,
)


@settings(deadline=None)
@given(plain.filter(lambda v: not (isinstance(v, float) and math.isinf(v))))
def test_plain_json_stays_readable(value: Any) -> None:
    if "Infinity" not in json.dumps(value):
        assert encode(value) == value


def test_order_of_keys_survives_sorting_stores() -> None:
    value = {"b": 1, "a": {"z": 1, "y": 2}}
    assert [*again(value)] == ["b", "a"]
    assert [*again(value)["a"]] == ["z", "y"]
    assert [*again({1: "x", 0: "y"})] == [1, 0]


def test_a_value_that_looks_like_a_document() -> None:
    for value in ({"$kitaru": 1}, {"$kitaru": "graph/1", "nodes": [], "root": [0]}):
        assert again(value) == value


def test_results_are_fresh() -> None:
    value = {"a": [1]}
    document = encode(value)
    value["a"].append(2)
    first = decode(document)
    first["a"].append(3)
    assert decode(document) == {"a": [1]}


def test_no_constructor_runs() -> None:
    node = Node("x")
    before = Node.constructed
    assert again([node, node])[0] == node
    assert Node.constructed == before
    model = Model(when="2026-01-02T03:04:05Z", items=[(1,)])  # type: ignore[arg-type]
    found = again(model)
    assert found == model and found._seen == 1 and found.model_fields_set == {"when", "items"}
    assert type(found.items[0]) is tuple and repr(found) == repr(model)


def test_ordinary_objects_are_their_attributes() -> None:
    made = Concrete.__new__(Concrete)
    vars(made)["kept"] = [1]
    found = again([made, made.__class__, made])
    assert found[0] is found[2] and found[1] is Concrete and vars(found[0]) == {"kept": [1]}
    agent = Agent("a")
    agent.say(agent)
    found = again((agent, agent.messages))
    assert found[0].messages is found[1] and found[1][0] is found[0]
    found[0].say("b")
    assert agent.messages == [agent] and not hasattr(again(Base.__new__(Base)), "held")


def test_a_hash_that_was_kept_is_taken_anew() -> None:
    for cls in (Cached, CachedInSlots):
        made = cls("a")
        assert hash(made) and again(made)._attrs_cached_hash is None
        assert again({made: 1})[made] == 1


def test_pydantic_extras_and_offsets() -> None:
    loose = Loose(b=[1])  # type: ignore[call-arg]
    assert again(loose) == loose and again(loose).b == [1]
    model = Model(when="2026-01-02T03:04:05+02:00")  # type: ignore[arg-type]
    assert again(model).when == model.when and repr(again(model)) == repr(model)


def test_self_in_own_set() -> None:
    one, two = Named("one"), Named("two")
    one.friends.update((one, two))
    two.friends.add(one)
    found = again(one)
    assert found in found.friends and {f.name for f in found.friends} == {"one", "two"}
    friend = next(f for f in found.friends if f.name == "two")
    assert next(iter(friend.friends)) is found


def test_cycles_through_tuples() -> None:
    inner: list[Any] = []
    value = ([inner], inner)
    inner.append(value)
    found = again(value)
    assert found[0][0] is found[1] and found[1][0] is found


def test_cycles_through_two_tuples_entered_at_any() -> None:
    middle: list[Any] = []
    outer = (middle,)
    inner = (1, outer)
    middle.append((inner, inner))
    for value in (outer, middle, inner, [outer], (inner, outer)):
        found = again(value)
        assert_same(value, found)


def test_identity_of_nan_and_long_texts() -> None:
    nan = float("nan")
    found = again([nan, nan, "x" * 1000])
    assert found[0] is found[1]
    long = "y" * 1000
    found = again((long, [long]))
    assert found[0] is found[1][0]


@pytest.mark.parametrize("wrap", [list, tuple, dict, frozenset, Identity, deque])
def test_depth(wrap: Any) -> None:
    depth = 10_000
    value: Any = ()
    for _ in range(depth):
        match wrap():
            case dict():
                value = {1: value}
            case Identity():
                value = Identity(value)
            case _:
                value = wrap((value,))
    found = again(value)
    for _ in range(depth):
        assert type(found) is wrap
        match found:
            case dict():
                found = found[1]
            case Identity():
                found = found.around
            case _:
                found = next(iter(found))
    assert found == ()


def test_special_values() -> None:
    made = uuid1()
    assert again(made).is_safe is made.is_safe
    folded = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Zurich"))
    assert again(folded).fold == 1 and again(folded).tzinfo is folded.tzinfo
    assert again(datetime.now(UTC)).tzinfo is UTC
    assert again(time(1, 2, fold=1)).fold == 1
    assert again(10**5000) == 10**5000
    assert again(timezone(timedelta(hours=1), "X")).tzname(None) == "X"
    assert str(again(Decimal("-sNaN12"))) == "-sNaN12"
    assert again(Fraction(10**5000, 3)) == Fraction(10**5000, 3)
    assert again(UUID(int=5)) == UUID(int=5) and again(date.max) == date.max
    assert again(timedelta(-1, 5, 7)) == timedelta(-1, 5, 7)


def test_bound_methods_keep_their_receiver() -> None:
    items: list[int] = []
    found, append = again((items, items.append))
    append(1)
    assert found == [1]
    node = Node("x")
    found, method = again((node, node.__repr__))
    assert method.__self__ is found


def test_defaultdict_keeps_making() -> None:
    found = again(defaultdict(list, {"a": [1]}))
    found["b"].append(2)
    assert found == {"a": [1], "b": [2]} and type(found) is defaultdict


@pytest.mark.parametrize(
    "document",
    [
        {"$kitaru": "graph/1"},
        {"$kitaru": "graph/1", "nodes": [], "root": [0]},
        {"$kitaru": "graph/1", "nodes": [["nonsense", 1]], "root": [0]},
        {"$kitaru": "graph/1", "nodes": [["tuple", None, [[0]]]], "root": [0]},
        {"$kitaru": "graph/1", "nodes": [["list", None, [[-9]]]], "root": [0]},
        {"$kitaru": "graph/1", "nodes": [["bytes", "é"]], "root": [0]},
        {"$kitaru": "graph/1", "nodes": [["dict", None, [1]]], "root": [0]},
        {"$kitaru": "graph/1", "nodes": [["set", None, [1, 1]]], "root": [0]},
        {"$kitaru": "json/1", "text": "{"},
        {"$kitaru": "json/1"},
    ],
)
def test_damage_is_told(document: Any) -> None:
    with pytest.raises(RecordCorrupt):
        decode(document)


def test_newer_form_is_told() -> None:
    with pytest.raises(RecordTooNew, match="graph/3"):
        decode({"$kitaru": "graph/3"})


def test_missing_definition_is_told() -> None:
    for node in (["name", [__name__, "gone"]], ["module", "no_such_module_here"]):
        with pytest.raises(FlowError, match=r"gone|no_such"):
            decode({"$kitaru": "graph/1", "nodes": [node], "root": [0]})


@settings(deadline=None)
@given(st.recursive(atoms, lambda i: st.lists(i, max_size=3) | st.dictionaries(texts, i)))
def test_any_graph_document_is_read_or_refused(junk: Any) -> None:
    with contextlib.suppress(KitaruError):
        decode({"$kitaru": "graph/1", "nodes": junk, "root": [0]})


def test_the_comparison_sees_sharing() -> None:
    shared: list[int] = []
    for left, right in (([shared, shared], [[], []]), ([[], []], [shared, shared])):
        with pytest.raises(AssertionError):
            assert_same(left, right)


@pytest.mark.parametrize("kind", [set, frozenset])
def test_a_set_of_texts_is_the_same_document_in_every_process(kind: Any) -> None:
    written = json.dumps(encode(kind("hgfedcba")))
    places = [written.index(f'"{letter}"') for letter in "abcdefgh"]
    assert places == sorted(places)


def test_no_memory_left_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    document = encode((1, 2))

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Decoder, "_walk", full)
    with pytest.raises(MemoryError):
        decode(document)
