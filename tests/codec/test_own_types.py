"""Objects of classes with a codec come back equal and shared as they were, or are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kitaru
from kitaru.errors import ClassChanged, UsageError, ValueNotEncodable
from kitaru.runtime.codec import (
    classes,
    decode,
    decode_frame,
    digest_arguments,
    encode,
    encode_frame,
    user_codecs,
)
from kitaru.runtime.codec.subvalues import values_inside
from kitaru.runtime.journal.to_json import as_json


class Foreign:
    """What a library's class may be: it cannot be copied, and hides nothing from its codec."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        raise TypeError("not by pickle")


class Money(Foreign):
    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.parts)


class Box(Foreign): ...


class Slug(str): ...


class Later(Money): ...


@dataclass
class Node:
    name: str
    children: list[Any] = field(default_factory=list)
    parent: Any = None


def money(**options: Any) -> None:
    functions: dict[str, Any] = {
        "encode": lambda one: list(one.parts),
        "decode": lambda form: Money(*form),
    }
    kitaru.register_codec(Money, **{"name": "acme.money", **functions, **options})


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = user_codecs.codecs()
    monkeypatch.setattr(classes, "_migrations", {})
    money()
    kitaru.register_codec(
        Box, name="acme.box", encode=lambda one: one.parts, decode=lambda form: Box(*form)
    )
    kitaru.register_codec(Slug, name="acme.slug", encode=str, decode=Slug)
    yield
    for codec in user_codecs.codecs():
        if codec not in before:
            user_codecs._forget(codec)


def back(value: Any) -> Any:
    """Return what a reader gets: the document passes through JSON, whose keys may be sorted."""
    return decode(json.loads(json.dumps(encode(value), sort_keys=True)))


def same(one: Any, other: Any) -> bool:
    """Return whether two values are alike, and share alike what has an identity."""
    pairs: dict[int, int] = {}
    kept, pending = [], [(one, other)]
    while pending:
        a, b = pending.pop()
        kept.append((a, b))
        if type(a) is not type(b):
            return False
        if isinstance(a, (int, str, bytes)) and not isinstance(a, Slug):
            if a != b:
                return False
            continue
        if id(a) in pairs:
            if pairs[id(a)] != id(b):
                return False
            continue
        pairs[id(a)] = id(b)
        parts = [_parts(a), _parts(b)]
        if len(parts[0]) != len(parts[1]):
            return False
        pending += zip(*parts, strict=True)
    return len(set(pairs.values())) == len(pairs)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Foreign):
        return list(value.parts)
    if isinstance(value, Node):
        return [value.name, value.children, value.parent]
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, list) else [str(value)]


@st.composite
def graphs(draw: st.DrawFn) -> Any:
    """Draw containers, objects of the project and objects with a codec that share and lead back.

    What an object with a codec leads to was made before it: its form never leads back to it.
    """
    made: list[Any] = [1, "a", b"x", Money(5, "EUR"), Slug("s")]
    open_: list[Any] = []
    for _ in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(["list", "dict", "node", "box", "money", "cycle"]))
        some = draw(st.lists(st.sampled_from(range(len(made))), max_size=4))
        parts = [made[at] for at in some]
        if kind == "list":
            made.append(parts)
            open_.append(made[-1])
        elif kind == "dict":
            made.append({str(at): part for at, part in enumerate(parts)} | {Money(9, "k"): 1})
        elif kind == "node":
            made.append(Node("n", parts))
            open_.append(made[-1].children)
        elif kind == "cycle":
            child = Node("child")
            child.parent = Node("top", [child, *parts])
            made.append(child)
        elif kind == "box":
            made.append(Box(*parts))
        else:
            made.append(Money(len(made), "EUR"))
    whole = [*draw(st.permutations(made))]
    if draw(st.booleans()):
        whole.append(whole)
    return whole


@given(graphs())
def test_what_is_nested_shared_and_in_cycles_comes_back(value: Any) -> None:
    document = encode(value)
    assert document["$kitaru"] == "graph/2"
    assert same(value, back(value))
    assert digest_arguments((value,), {}) == digest_arguments((back(value),), {})
    assert as_json(document) == as_json(encode(back(value)))


@given(graphs())
def test_what_a_frame_holds_comes_back(value: Any) -> None:
    modules: dict[str, dict[str, Any]] = {}
    variables = decode_frame(encode_frame({"a": value, "b": value}, modules), modules)
    assert same([value, value], [variables["a"], variables["b"]])


def test_a_record_without_codecs_is_as_before() -> None:
    assert encode((1, Node("n")))["$kitaru"] == "graph/1"


def test_an_object_is_one_node() -> None:
    one = Money(5, "EUR")
    document = encode([one, (one,), {one: one}])
    assert [node[0] for node in document["nodes"]].count("codec") == 1
    assert document["nodes"][1] == ["codec", ["acme.money", 1, __name__], [[4]]]


def test_a_string_of_its_own_class_comes_back() -> None:
    found = back({"title": Slug("a-b"), Slug("k"): 1})
    assert [type(found["title"]), *map(type, found)] == [Slug, str, Slug]


def test_an_object_waits_for_the_cycle_that_its_form_leads_to() -> None:
    names = []

    def decoded(form: tuple[Node]) -> Box:
        names.append([child.parent.name for child in form[0].children])
        return Box(*form)

    user_codecs._forget(user_codecs.codec_of(Box))
    kitaru.register_codec(Box, name="acme.box", encode=lambda one: one.parts, decode=decoded)
    tree = Node("root")
    tree.children.append(Node("leaf", parent=tree))
    value: list[Any] = [{"k": (Box(tree),)}, frozenset({Box(tree)}), tree]
    value.append(value)
    tree = back(value)[0]["k"][0].parts[0]
    assert tree.children[0].parent is tree
    assert set(map(str, names)) == {"['root']"}


@pytest.mark.parametrize(
    "make",
    [
        lambda box: box.__setattr__("parts", (box,)),
        lambda box: box.__setattr__("parts", ([{"k": box}],)),
        lambda box: box.__setattr__("parts", (Box((box,)),)),
        lambda box: box.__setattr__("parts", (Node("n", [box]),)),
    ],
)
def test_a_form_that_leads_back_to_its_object_is_refused(make: Callable[[Box], None]) -> None:
    box = Box()
    make(box)
    with pytest.raises(ValueNotEncodable, match="leads back to the object") as caught:
        encode([1, box], where="result")
    assert caught.value.path.startswith("result[1]")
    assert "Leave the way back out" in caught.value.help


def test_large_parts_of_a_form_stay_beside_the_document() -> None:
    one = Box(b"x" * 300_000, "y" * 300_000)
    assert back([one])[0].parts == one.parts


@pytest.mark.parametrize("library", ["numpy", "pandas"])
def test_a_form_may_contain_arrays(library: str) -> None:
    module = pytest.importorskip(library)
    value = module.arange(4) if library == "numpy" else module.DataFrame({"a": [1, 2]})
    one = Box(value, value)
    first, second = back([one])[0].parts
    assert first is second
    assert (first == value).all() if library == "numpy" else first.equals(value)


def test_the_form_decides_what_is_equal() -> None:
    def digest(value: Any) -> str:
        return digest_arguments((value,), {}).digest

    user_codecs._forget(user_codecs.codec_of(Money))
    money(encode=lambda one: one.parts[0], decode=lambda form: Money(form, "EUR"))
    before = digest(Money(5, "EUR"))
    assert before == digest(Money(5, "USD")) != digest(Money(6, "EUR"))
    user_codecs._forget(user_codecs.codec_of(Money))
    money(encode=lambda one: one.parts[0], decode=lambda form: Money(form, "EUR"), view=str)
    assert before == digest(Money(5, "EUR"))
    user_codecs._forget(user_codecs.codec_of(Money))
    money(encode=lambda one: one.parts[0], decode=lambda form: Money(form, "EUR"), version=2)
    assert before != digest(Money(5, "EUR"))


def test_a_view_is_shown_without_the_codec() -> None:
    user_codecs._forget(user_codecs.codec_of(Money))
    money(view=lambda one: {"amount": f"{one.parts[0]} {one.parts[1]}"})
    document = encode({"price": Money(5, "EUR"), "box": Box(1, (2,))})
    user_codecs._forget(user_codecs.codec_of(Money))
    user_codecs._forget(user_codecs.codec_of(Box))
    assert as_json(document) == {"price": {"amount": "5 EUR"}, "box": [1, [2]]}


def test_the_parts_of_a_value_are_what_encoding_them_gives() -> None:
    one = Money(5, "EUR")
    value = [one, {"k": (one, [Box(one)])}, Node("n")]
    found = list(values_inside(encode(value), 1))
    assert found == [encode(part) for part in value]


FAILING: dict[str, tuple[dict[str, Any], str]] = {
    "encode raises": ({"encode": lambda one: one.gone}, "raised AttributeError: "),
    "encode returns the object": ({"encode": lambda one: one}, "returned a Money instead"),
    "encode returns another one": ({"encode": lambda one: Money()}, "returned a Money instead"),
    "encode never ends": ({"encode": lambda one: [Money()]}, "objects in objects, 10,000 deep"),
    "encode returns what is not recorded": (
        {"encode": lambda one: {"client": sys.stdout}},
        r'result\[0\].<acme.money>\["client"\] is a ',
    ),
    "decode raises": ({"decode": lambda form: Money(form["a"])}, "raised TypeError"),
    "decode returns something else": ({"decode": tuple}, "returned a tuple, not a Money"),
    "decode returns a subclass": (
        {"decode": lambda form: Later(*form)},
        "returned a Later, not a Money",
    ),
    "decode mixes it up": (
        {"decode": lambda form: Money(*reversed(form))},
        "encodes it differently after it was decoded",
    ),
    "view raises": ({"view": lambda one: 1 / 0}, "a view that raised ZeroDivisionError"),
    "view is not JSON": ({"view": lambda one: (1,)}, "a view that does not return JSON"),
}


@pytest.mark.parametrize("case", FAILING)
def test_a_codec_that_fails_is_named_when_the_value_is_recorded(case: str) -> None:
    options, message = FAILING[case]
    user_codecs._forget(user_codecs.codec_of(Money))
    money(**options)
    with pytest.raises(ValueNotEncodable, match=message) as caught:
        encode([Money(5, "EUR")], where="result")
    assert "acme.money" in str(caught.value) or "acme.money" in caught.value.path
    assert caught.value.path.startswith("result")
    assert caught.value.help


def test_a_subclass_has_no_codec() -> None:
    with pytest.raises(ValueNotEncodable) as caught:
        encode([Later(1)], where="result")
    assert 'register_codec(Later, name="tests.Later"' in caught.value.help
    kitaru.register_codec(
        Later, name="acme.later", encode=lambda one: one.parts, decode=lambda form: Later(*form)
    )
    assert type(back(Later(1))) is Later


def test_a_class_without_a_codec_is_offered_one() -> None:
    class_ = type("Client", (), {"__module__": "acme.net", "__reduce__": lambda self: ""})
    with pytest.raises(ValueNotEncodable) as caught:
        encode({"client": class_()}, where="result")
    line = 'kitaru.register_codec(Client, name="acme.Client", encode=…, decode=…)'
    assert line in caught.value.help
    with pytest.raises(ValueNotEncodable) as caught:
        encode(sys.stdin)
    assert "register_codec" not in caught.value.help


def test_an_earlier_version_is_migrated_or_refused() -> None:
    document = encode([Money(5, "EUR")])
    user_codecs._forget(user_codecs.codec_of(Money))
    money(version=2, encode=lambda one: {"cents": one.parts[0]}, decode=lambda f: Money(f["cents"]))
    with pytest.raises(ClassChanged, match=r"version 1 .* version 2 is registered") as caught:
        decode(document, where='The result of "price"')
    assert caught.value.message.startswith('The result of "price" cannot be read: a recorded ')
    assert "kitaru.migrate(Money, function)" in caught.value.help

    seen = []

    def to_2(fields: dict[str, Any]) -> dict[str, Any]:
        seen.append(fields)
        return {"version": 2, "form": {"cents": fields["form"][0]}}

    kitaru.migrate(Money, to_2)
    assert decode(document) == [Money(5)]
    assert seen == [{"version": 1, "form": [5, "EUR"]}]
    assert decode(encode(Money(6))) == Money(6) and len(seen) == 1

    kitaru.migrate(Money, lambda fields: fields["form"])
    with pytest.raises(UsageError, match="did not return the form"):
        decode(document)
    kitaru.migrate(Money, lambda fields: {"form": fields["gone"]})
    with pytest.raises(ClassChanged, match="declares raised KeyError"):
        decode(document)


def test_a_later_version_is_refused() -> None:
    user_codecs._forget(user_codecs.codec_of(Money))
    money(version=3)
    document = encode(Money(1))
    user_codecs._forget(user_codecs.codec_of(Money))
    money(version=2)
    kitaru.migrate(Money, lambda fields: fields)
    with pytest.raises(ClassChanged, match=r"version 3 .* version 2 is registered"):
        decode(document)


def test_what_a_changed_decode_does_not_read_is_told() -> None:
    document = encode(Money(1, "EUR"))
    user_codecs._forget(user_codecs.codec_of(Money))
    money(decode=lambda form: Money(form["cents"]))
    with pytest.raises(ClassChanged, match=r"cannot be decoded: the codec acme\.money 1") as caught:
        decode(document)
    assert "raise `version`" in caught.value.help


def test_a_codec_that_is_missing_is_named() -> None:
    document = encode(Money(1, "EUR"))
    user_codecs._forget(user_codecs.codec_of(Money))
    with pytest.raises(
        ClassChanged, match=r"needs the codec acme\.money 1, which is not"
    ) as caught:
        decode(document)
    assert f"the module {__name__} does not register it any more" in caught.value.message
    assert "acme.box, acme.slug" in caught.value.message
    text = json.dumps(document).replace(__name__, "gone_module")
    with pytest.raises(ClassChanged, match="module gone_module, which cannot be imported"):
        decode(json.loads(text))


def test_a_reader_imports_the_module_that_registered(tmp_path: Path) -> None:
    (tmp_path / "acme.py").write_text(
        "class Money:\n    def __init__(self, n): self.n = n\n"
        "    def __reduce__(self): raise TypeError\n"
    )
    (tmp_path / "acme_codecs.py").write_text(
        "import kitaru, acme\nkitaru.register_codec(acme.Money, name='acme.m', "
        "encode=lambda m: m.n, decode=acme.Money)\n"
    )
    head = "import json, sys; from kitaru.runtime.codec import decode, encode\n"
    write = head + "import acme_codecs, acme; print(json.dumps(encode(acme.Money(3))))"
    read = head + "value = decode(json.load(sys.stdin)); print(type(value).__name__, value.n)"

    def ran(code: str, text: str = "") -> str:
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, cwd=tmp_path, input=text, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert ran(read, ran(write)) == "Money 3\n"


class Colour(Enum):
    RED = 1


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (Foreign, {"name": "a b"}, "takes a name of letters"),
        (Foreign, {"name": ""}, "takes a name of letters"),
        (Foreign, {"name": "x" * 101}, "takes a name of letters"),
        (Foreign, {"version": 0}, "takes a version of 1 or more"),
        (Foreign, {"version": True}, "takes a version of 1 or more"),
        (Foreign, {"encode": 1}, "takes a function as `encode`"),
        (Foreign, {"decode": None}, "takes a function as `decode`"),
        (Foreign, {"view": "text"}, "takes a function as `view`"),
        (Foreign(), {}, "takes a class, not"),
        (dict, {}, r"builtins\.dict cannot have a codec: Kitaru records it itself"),
        (Path, {}, ""),
        (Colour, {}, "Kitaru records it itself"),
        (kitaru.Future, {}, "Kitaru records it itself"),
        (Foreign, {"name": "acme.money"}, "The name acme.money has two codecs: acme.money of "),
        (Money, {"name": "acme.other"}, r"The class .*Money has two codecs: acme.money of "),
        (Money, {"name": "acme.money"}, "The name acme.money has two codecs"),
    ],
)
def test_what_cannot_be_registered_is_refused(cls: Any, options: Any, message: str) -> None:
    given = {"name": "acme.new", "encode": str, "decode": str, **options}
    if cls is Path:
        cls = type(Path())
        message = "Kitaru records it itself"
    before = user_codecs.codecs()
    with pytest.raises(UsageError, match=message):
        kitaru.register_codec(cls, **given)
    assert user_codecs.codecs() == before


def test_a_module_that_is_loaded_again_registers_again() -> None:
    source = (
        "import kitaru\n"
        "class Coin:\n"
        "    def __init__(self, n): self.n = n\n"
        "kitaru.register_codec(Coin, name='acme.coin', encode=lambda c: c.n, decode=Coin)\n"
    )
    spaces: list[dict[str, Any]] = [{"__name__": "coins"}, {"__name__": "coins"}]
    for space in spaces:
        exec(compile(source, "coins.py", "exec"), space)
    document = encode(spaces[1]["Coin"](3))
    assert type(decode(document)) is spaces[1]["Coin"]
    with pytest.raises(UsageError, match="has two codecs"):
        exec(compile(source, "other.py", "exec"), {"__name__": "other"})


def test_it_is_a_decorator_as_well() -> None:
    @kitaru.register_codec(
        name="acme.point", encode=lambda one: [one.x], decode=lambda form: Point(*form)
    )
    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    assert back(Point(3)).x == 3
    assert Point.__name__ == "Point"
