"""Records of classes that have changed since: kinds of classes times kinds of edits."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import kitaru
from kitaru.errors import ClassChanged, FlowError, UsageError
from kitaru.runtime.codec import classes, decode, digest_arguments, encode, qualified_names
from kitaru.runtime.codec.subvalues import values_inside

HEAD = """\
from __future__ import annotations
import functools
from dataclasses import dataclass, field
from enum import Enum, Flag
from typing import Any, NamedTuple, Optional, Union
import attrs
from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.dataclasses import dataclass as checked
"""
Edit = Callable[..., ModuleType]


@pytest.fixture(autouse=True)
def declarations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget after each test what it declared."""
    monkeypatch.setattr(classes, "_migrations", {})
    monkeypatch.setattr(qualified_names, "_moved", {})


@pytest.fixture
def edit(tmp_path: Path) -> Iterator[Edit]:
    """Return what makes a module of the project from source, as a new process would."""
    made = set()

    def write(source: str, name: str = "edited_shapes") -> ModuleType:
        module = ModuleType(name)
        module.__file__ = str(tmp_path / f"{name}.py")
        made.add(name)
        sys.modules[name] = module
        exec(compile(HEAD + source, module.__file__, "exec"), vars(module))
        return module

    yield write
    for name in made:
        sys.modules.pop(name, None)


def recorded(value: Any) -> Any:
    return json.loads(json.dumps(encode(value)))


HEADS = {
    "dataclass": "@dataclass\nclass Brief:\n",
    "frozen": "@dataclass(frozen=True)\nclass Brief:\n",
    "slim": "@dataclass(slots=True)\nclass Brief:\n",
    "attrs": "@attrs.define\nclass Brief:\n",
    "attrs with a dict": "@attrs.define(slots=False)\nclass Brief:\n",
    "pydantic": "class Brief(BaseModel):\n",
    "frozen pydantic": "class Brief(BaseModel, frozen=True):\n",
    "checked": "@checked\nclass Brief:\n",
    "namedtuple": "class Brief(NamedTuple):\n",
}
BEFORE = "    topic: str\n    score: int = 0\n"
kinds = pytest.mark.parametrize("kind", HEADS)


@kinds
def test_equal_class(edit: Edit, kind: str) -> None:
    value = edit(HEADS[kind] + BEFORE).Brief(topic="x", score=3)
    document = recorded([value, value])
    first, second = decode(document)
    assert first is second and repr(first) == repr(value)
    again = edit(HEADS[kind] + BEFORE)
    assert decode(document)[0] == again.Brief(topic="x", score=3)


@kinds
@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ("    topic: str\n    points: int = 0\n", "score"),
        ("    topic: str\n    points: int\n", "points"),
        ("    topic: str\n", "score"),
        ("    topic: str\n    owner: str\n    score: int = 0\n", "owner"),
    ],
    ids=["rename", "rename without default", "remove", "add without default"],
)
def test_fields_that_need_a_decision(edit: Edit, kind: str, fields: str, shown: str) -> None:
    document = recorded({"a": [edit(HEADS[kind] + BEFORE).Brief(topic="x", score=3)]})
    edit(HEADS[kind] + fields)
    with pytest.raises(ClassChanged, match=rf"edited_shapes\.Brief .*\b{shown}\b") as caught:
        decode(document)
    assert caught.value.exit_code == 1
    assert "kitaru.migrate(Brief, function)" in caught.value.help
    assert "Check the store" not in caught.value.help


@kinds
def test_added_field_with_default(edit: Edit, kind: str) -> None:
    document = recorded(edit(HEADS[kind] + BEFORE).Brief(topic="x", score=3))
    added = edit(HEADS[kind] + BEFORE + "    owner: str = 'me'\n")
    assert decode(document) == added.Brief(topic="x", score=3, owner="me")


@pytest.mark.parametrize(
    ("kind", "factory"),
    [
        ("dataclass", "field(default_factory=list)"),
        ("slim", "field(default_factory=list)"),
        ("attrs", "attrs.Factory(list)"),
        ("pydantic", "Field(default_factory=list)"),
        ("checked", "Field(default_factory=list)"),
    ],
)
def test_added_field_with_factory(edit: Edit, kind: str, factory: str) -> None:
    brief = edit(HEADS[kind] + BEFORE).Brief
    document = recorded([brief(topic="x"), brief(topic="y")])
    edit(HEADS[kind] + BEFORE + f"    tags: list = {factory}\n")
    first, second = decode(document)
    assert first.tags == [] and first.tags is not second.tags


def test_default_of_attrs_from_other_fields(edit: Edit) -> None:
    document = recorded(edit(HEADS["attrs"] + BEFORE).Brief("x", 3))
    factory = "attrs.Factory(lambda self: self.score * 2, takes_self=True)"
    edit(HEADS["attrs"] + BEFORE + f"    twice: int = {factory}\n")
    assert decode(document).twice == 6


@kinds
def test_reordered_fields(edit: Edit, kind: str) -> None:
    document = recorded(edit(HEADS[kind] + "    a: int\n    b: int\n").Brief(a=1, b=2))
    edit(HEADS[kind] + "    b: int\n    a: int\n")
    found = decode(document)
    assert (found.a, found.b) == (1, 2)


@kinds
def test_migration(edit: Edit, kind: str) -> None:
    value = edit(HEADS[kind] + BEFORE).Brief(topic="x", score=3)
    document = recorded({"k": value})
    renamed = edit(HEADS[kind] + "    topic: str\n    points: int\n    owner: str = 'me'\n")
    given = []

    def from_score(fields: dict[str, Any]) -> dict[str, Any]:
        given.append(dict(fields))
        fields["points"] = fields.pop("score")
        return fields

    kitaru.migrate(renamed.Brief, from_score)
    assert decode(document)["k"] == renamed.Brief(topic="x", points=3)
    assert given == [{"topic": "x", "score": 3}]
    # What is recorded in the present form is not migrated.
    assert decode(recorded(renamed.Brief(topic="y", points=1))).points == 1
    assert len(given) == 1


@kinds
def test_moved_and_renamed_class(edit: Edit, kind: str) -> None:
    value = edit(HEADS[kind] + BEFORE, "old_shapes").Brief(topic="x", score=3)
    document, digest = recorded([value]), digest_arguments((value,), {}).digest
    del sys.modules["old_shapes"]
    source = HEADS[kind].replace("Brief", "Summary") + BEFORE
    moved = edit(source).Summary
    with pytest.raises(FlowError, match="old_shapes") as caught:
        decode(document)
    assert 'kitaru.moved("old_shapes:Brief", Brief)' in caught.value.help
    kitaru.moved("old_shapes:Brief", moved)
    assert decode(document) == [moved(topic="x", score=3)]
    # The recorded arguments of a call stay equal, so that its replay does not diverge.
    assert digest_arguments((moved(topic="x", score=3),), {}).digest == digest


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (before, after)
        for before in ("dataclass", "slim", "attrs", "checked", "pydantic")
        for after in ("pydantic", "namedtuple", "enum")
        if before != after
    ],
)
def test_another_kind_of_class(edit: Edit, before: str, after: str) -> None:
    document = recorded(edit(HEADS[before] + BEFORE).Brief(topic="x", score=3))
    edit("class Brief(Enum):\n    A = 1\n" if after == "enum" else HEADS[after] + BEFORE)
    with pytest.raises(ClassChanged, match="is now"):
        decode(document)


@pytest.mark.parametrize("after", ["dataclass", "slim", "attrs", "checked"])
def test_model_is_no_dataclass(edit: Edit, after: str) -> None:
    document = recorded(edit(HEADS["pydantic"] + BEFORE).Brief(topic="x", score=3))
    edit(HEADS[after] + BEFORE)
    with pytest.raises(ClassChanged, match="was a pydantic model"):
        decode(document)


@pytest.mark.parametrize("after", ["dataclass", "pydantic", "attrs"])
def test_named_tuple_is_no_object(edit: Edit, after: str) -> None:
    document = recorded(edit(HEADS["namedtuple"] + BEFORE).Brief("x", 3))
    edit(HEADS[after] + BEFORE)
    with pytest.raises(ClassChanged, match="was a named tuple"):
        decode(document)


def test_migration_to_another_kind(edit: Edit) -> None:
    document = recorded(edit(HEADS["dataclass"] + BEFORE).Brief("x", 3))
    model = edit(HEADS["pydantic"] + BEFORE).Brief
    kitaru.migrate(model, lambda fields: fields)
    found = decode(document)
    assert found == model(topic="x", score=3) and found.model_fields_set == {"topic", "score"}


@pytest.mark.parametrize(("before", "after"), [("dataclass", "slim"), ("slim", "dataclass")])
def test_slots_come_and_go(edit: Edit, before: str, after: str) -> None:
    document = recorded(edit(HEADS[before] + BEFORE).Brief("x", 3))
    brief = edit(HEADS[after] + BEFORE).Brief
    assert decode(document) == brief("x", 3)


@pytest.mark.parametrize("what", ["a function", "a list"])
def test_name_that_is_no_class_now(edit: Edit, what: str) -> None:
    document = recorded(edit(HEADS["dataclass"] + BEFORE).Brief("x", 3))
    edit("def Brief(): pass\n" if what == "a function" else "Brief = []\n")
    with pytest.raises(ClassChanged, match=r"was a class with attributes, and"):
        decode(document)


class TestPydantic:
    @pytest.mark.parametrize("kind", ["pydantic", "checked"])
    @pytest.mark.parametrize(
        ("before", "after", "value", "expected"),
        [
            ("    a: str\n", "    a: int\n", "x", None),
            ("    a: str\n", "    a: int\n", "7", 7),
            ("    a: int\n", "    a: int = Field(gt=10)\n", 3, None),
            ("    a: Optional[int]\n", "    a: int\n", None, None),
            ("    a: int\n", "    a: Optional[int] = None\n", 3, 3),
            ("    a: list[int]\n", "    a: list[str]\n", [1], None),
        ],
    )
    def test_retyped_field(
        self, edit: Edit, kind: str, before: str, after: str, value: Any, expected: Any
    ) -> None:
        document = recorded(edit(HEADS[kind] + before).Brief(a=value))
        edit(HEADS[kind] + after)
        if expected is None:
            with pytest.raises(ClassChanged, match=r"not valid for its class.*a(\.0)?: Input"):
                decode(document)
        else:
            assert decode(document).a == expected

    def test_no_validator_runs_while_the_class_is_equal(self, edit: Edit) -> None:
        source = (
            "calls = []\nclass Brief(BaseModel):\n    a: Union[int, None]\n"
            "    @field_validator('a')\n    @classmethod\n    def double(cls, value):\n"
            "        calls.append(value)\n        return value * 2\n"
        )
        document = recorded(edit(source).Brief(a=1))
        same = edit(source.replace("Union[int, None]", "int | None"))
        assert decode(document).a == 2 and not same.calls

    def test_error_does_not_contain_the_value(self, edit: Edit) -> None:
        document = recorded(edit(HEADS["pydantic"] + "    a: str\n").Brief(a="confidential"))
        edit(HEADS["pydantic"] + "    a: int\n")
        with pytest.raises(ClassChanged) as caught:
            decode(document)
        assert "confidential" not in str(caught.value)

    def test_aliases_private_and_unset_fields(self, edit: Edit) -> None:
        source = (
            "class Brief(BaseModel):\n    a: int = Field(alias='A')\n    b: int = 2\n"
            "    _seen: int = 0\n"
        )
        value = edit(source).Brief(A=1)
        value._seen = 9
        document = recorded(value)
        edit(source + "    c: int = Field(3, validation_alias='C')\n")
        found = decode(document)
        assert (found.a, found.b, found.c, found._seen) == (1, 2, 3, 9)
        assert found.model_fields_set == {"a"}

    @pytest.mark.parametrize("lost", ["extra", "private"])
    def test_extra_and_private_values_are_not_dropped(self, edit: Edit, lost: str) -> None:
        config = "    model_config = ConfigDict(extra='allow')\n"
        source = f"class Brief(BaseModel):\n{config}    a: int\n    _seen: int = 0\n"
        document = recorded(edit(source).Brief(a=1, more=2))
        gone = config if lost == "extra" else "    _seen: int = 0\n"
        edit(source.replace(gone, "") + "    c: int = 0\n")
        with pytest.raises(ClassChanged, match="more" if lost == "extra" else "_seen"):
            decode(document)

    def test_extra_value_becomes_a_field(self, edit: Edit) -> None:
        source = (
            "class Brief(BaseModel):\n    model_config = ConfigDict(extra='allow')\n    a: int\n"
        )
        document = recorded(edit(source).Brief(a=1, more=2, other=3))
        edit(source + "    more: int = 0\n")
        found = decode(document)
        assert found.more == 2 and found.model_extra == {"other": 3}

    def test_models_inside_models(self, edit: Edit) -> None:
        outer = "class Outer(BaseModel):\n    first: Brief\n    again: Brief\n"
        shapes = edit(HEADS["pydantic"] + BEFORE + outer)
        part = shapes.Brief(topic="x", score=3)
        document = recorded(shapes.Outer(first=part, again=part))
        edit(HEADS["pydantic"] + BEFORE + "    c: int = 1\n" + outer + "    d: int = 2\n")
        found = decode(document)
        assert found.first is found.again and (found.first.c, found.d) == (1, 2)


class TestPlainClasses:
    def test_attributes_are_not_declared(self, edit: Edit) -> None:
        source = "class Brief:\n    def __init__(self): self.topic = 'x'\n"
        document = recorded(edit(source).Brief())
        edit(source.replace("topic", "subject"))
        assert vars(decode(document)) == {"topic": "x"}

    @pytest.mark.parametrize(
        ("slots", "shown"), [("('a',)", "b"), ("('a', 'c')", "b"), ("('a', 'b', 'c')", "c")]
    )
    def test_slots(self, edit: Edit, slots: str, shown: str) -> None:
        source = "class Brief:\n    __slots__ = ('a', 'b')\n"
        value = edit(source).Brief()
        value.a, value.b = 1, 2
        document = recorded(value)
        edit(source.replace("('a', 'b')", slots))
        with pytest.raises(ClassChanged, match=rf"\b{shown}\b"):
            decode(document)

    def test_unset_slot_stays_unset(self, edit: Edit) -> None:
        source = "class Brief:\n    __slots__ = ('a', 'b')\n"
        value = edit(source).Brief()
        value.a = 1
        found = decode(recorded(value))
        assert found.a == 1 and not hasattr(found, "b")

    def test_plain_class_becomes_a_dataclass(self, edit: Edit) -> None:
        source = "class Brief:\n    def __init__(self): self.topic = 'x'\n"
        document = recorded(edit(source).Brief())
        brief = edit(HEADS["dataclass"] + BEFORE).Brief
        assert decode(document) == brief("x", 0)


class TestUndeclaredAttributes:
    SOURCE = (
        "@dataclass\nclass Brief:\n    a: int\n    made: int = field(init=False)\n"
        "    def __post_init__(self): self.total = self.a * 2\n"
        "    @functools.cached_property\n    def slow(self): return self.a * 3\n"
    )

    def test_come_back(self, edit: Edit) -> None:
        value = edit(self.SOURCE).Brief(1)
        assert value.slow == 3
        found = decode(recorded(value))
        assert vars(found) == {"a": 1, "total": 2, "slow": 3}

    def test_stay_beside_a_new_field_without_stale_caches(self, edit: Edit) -> None:
        value = edit(self.SOURCE).Brief(1)
        assert value.slow == 3
        document = recorded(value)
        edit(self.SOURCE.replace("    def __post", "    c: int = 5\n    def __post"))
        assert vars(decode(document)) == {"a": 1, "total": 2, "c": 5}


class TestEnums:
    @pytest.mark.parametrize("members", ["A = 1", "A = 1; C = 2"], ids=["removed", "renamed"])
    def test_member_is_gone(self, edit: Edit, members: str) -> None:
        document = recorded({"k": edit("class Letter(Enum):\n    A = 1; B = 2\n").Letter.B})
        letter = edit(f"class Letter(Enum):\n    {members}\n").Letter
        with pytest.raises(ClassChanged, match=r"edited_shapes\.Letter is the member B") as caught:
            decode(document)
        assert "Check the store" not in str(caught.value)
        kitaru.migrate(letter, lambda fields: {"name": "A"})
        assert decode(document) == {"k": letter.A}

    def test_flag_is_gone(self, edit: Edit) -> None:
        flags = edit("class Bits(Flag):\n    A = 1; B = 2\n").Bits
        document = recorded([flags.A | flags.B])
        edit("class Bits(Flag):\n    A = 1\n")
        with pytest.raises(ClassChanged, match=r"edited_shapes\.Bits"):
            decode(document)

    def test_enum_is_a_class_now(self, edit: Edit) -> None:
        document = recorded(edit("class Letter(Enum):\n    A = 1\n").Letter.A)
        edit(HEADS["dataclass"].replace("Brief", "Letter") + BEFORE)
        with pytest.raises(ClassChanged, match="was an enum"):
            decode(document)


class TestGraphs:
    NODE = "@dataclass(eq=False)\nclass Node:\n    name: str\n    peers: list = ()\n"

    def test_cycle_through_a_changed_class(self, edit: Edit) -> None:
        node = edit(self.NODE).Node
        first, second = node("a"), node("b")
        first.peers, second.peers = [second, first], [first]
        document = recorded({"first": first, "all": [first, second]})
        edit(self.NODE + "    weight: int = 1\n")
        found = decode(document)
        assert found["first"].peers == [found["all"][1], found["first"]]
        assert [each.weight for each in found["all"]] == [1, 1]

    def test_cycle_of_models_keeps_what_it_holds(self, edit: Edit) -> None:
        source = "class Node(BaseModel):\n    name: str\n    peers: list[Node] = []\n"
        node = edit(source).Node
        first = node(name="a")
        first.peers.append(first)
        document = recorded(first)
        edit(source + "    weight: int = 1\n")
        found = decode(document)
        assert found.weight == 1 and found.peers[0] is found

    def test_key_of_a_dict(self, edit: Edit) -> None:
        document = recorded({edit(HEADS["frozen"] + BEFORE).Brief("x", 3): 1})
        changed = edit(HEADS["frozen"] + BEFORE + "    c: int = 0\n").Brief
        assert decode(document) == {changed("x", 3): 1}

    def test_parts_are_recorded_as_they_would_be_alone(self, edit: Edit) -> None:
        shapes = edit(
            HEADS["dataclass"] + BEFORE + HEADS["pydantic"].replace("Brief", "M") + BEFORE
        )
        values = [shapes.Brief("x", 1), [shapes.M(topic="y"), shapes.Brief("z", 2)]]
        assert list(values_inside(recorded(values), 2)) == [
            recorded(part) for part in (*values, *values[1])
        ]


class TestDeclarations:
    @pytest.mark.parametrize("old", ["", "old", "old:", ":Old", "a:b:c", 3])
    def test_place_is_checked(self, old: Any) -> None:
        with pytest.raises(UsageError, match="module:name"):
            kitaru.moved(old, int)

    def test_arguments_are_checked(self) -> None:
        with pytest.raises(UsageError, match="takes a class, not str"):
            kitaru.moved("old:Brief", "Brief")  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="takes a class, not str"):
            kitaru.migrate("Brief", dict)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="takes a function"):
            kitaru.migrate(int, None)  # type: ignore[arg-type]

    def test_result_of_a_migration_is_checked(self, edit: Edit) -> None:
        document = recorded(edit(HEADS["dataclass"] + BEFORE).Brief("x", 3))
        brief = edit(HEADS["dataclass"] + "    topic: str\n").Brief
        kitaru.migrate(brief, lambda fields: None)  # type: ignore[arg-type, return-value]
        with pytest.raises(UsageError, match="NoneType, not a dict"):
            decode(document)
        kitaru.migrate(brief, lambda fields: fields)
        with pytest.raises(ClassChanged, match="score"):
            decode(document)


# What Kitaru 0.1 wrote: no document described its classes.
OLD = {
    "Data": [["object", 6, [[1], "a", 1, "b", 2, "total", 3]], ["name", ["edited_shapes", "Data"]]],
    "Slim": [["object", 0, [[1], "a", 1, "b", 2]], ["name", ["edited_shapes", "Slim"]]],
    "Late": [["object", 2, [[1], "a", 1]], ["name", ["edited_shapes", "Late"]]],
    "Attr": [["object", 0, [[1], "a", 1, "b", 2]], ["name", ["edited_shapes", "Attr"]]],
    "Model": [
        ["object", 4, [
            [1], "a", 1, "b", 2, "__pydantic_extra__", None,
            "__pydantic_fields_set__", [2], "__pydantic_private__", None,
        ]],
        ["name", ["edited_shapes", "Model"]],
        ["set", None, ["a"]],
    ],
    "Pair": [["namedtuple", None, [[1], 1, 2]], ["name", ["edited_shapes", "Pair"]]],
    "Plain": [["object", 4, [[1], "a", 1, "b", 2]], ["name", ["edited_shapes", "Plain"]]],
    "Letter": [["enum", "B", [[1]]], ["name", ["edited_shapes", "Letter"]]],
}  # fmt: skip
OLD_SOURCES = {
    "Data": "@dataclass\nclass Data:\n    a: int\n    b: int = 2\n",
    "Slim": "@dataclass(slots=True)\nclass Slim:\n    a: int\n    b: int = 2\n",
    "Late": "@dataclass\nclass Late:\n    a: int\n    b: int = field(init=False)\n",
    "Attr": "@attrs.define\nclass Attr:\n    a: int\n    b: int = 2\n",
    "Model": "class Model(BaseModel):\n    a: int\n    b: int = 2\n",
    "Pair": "class Pair(NamedTuple):\n    a: int\n    b: int\n",
    "Plain": "class Plain:\n    pass\n",
    "Letter": "class Letter(Enum):\n    A = 1\n    B = 2\n",
}


class TestOldRecords:
    @staticmethod
    def document(name: str) -> Any:
        return {"$kitaru": "graph/1", "nodes": OLD[name], "root": [0]}

    @pytest.mark.parametrize("name", OLD)
    def test_decode(self, edit: Edit, name: str) -> None:
        cls = getattr(edit(OLD_SOURCES[name]), name)
        found = decode(self.document(name))
        assert type(found) is cls
        if name == "Letter":
            assert found is cls.B
        elif name == "Late":
            assert vars(found) == {"a": 1}
        else:
            assert (found.a, found.b) == (1, 2)
            assert name != "Data" or found.total == 3

    @pytest.mark.parametrize("name", ["Data", "Slim", "Attr", "Model", "Pair", "Letter"])
    def test_renamed(self, edit: Edit, name: str) -> None:
        edit(OLD_SOURCES[name].replace("    b: int", "    c: int").replace("B = 2", "C = 2"))
        if name == "Pair":
            # Its record has no names, only as many values.
            assert decode(self.document(name)).c == 2
            return
        with pytest.raises(ClassChanged, match=r"\b[bB]\b"):
            decode(self.document(name))

    @pytest.mark.parametrize("name", ["Slim", "Attr", "Model"])
    def test_added_with_default(self, edit: Edit, name: str) -> None:
        edit(OLD_SOURCES[name] + "    c: int = 5\n")
        found = decode(self.document(name))
        assert (found.a, found.b, found.c) == (1, 2, 5)

    def test_longer_named_tuple(self, edit: Edit) -> None:
        edit(OLD_SOURCES["Pair"] + "    c: int = 5\n")
        with pytest.raises(ClassChanged, match="has 2 fields, and the class has 3"):
            decode(self.document("Pair"))

    def test_another_kind(self, edit: Edit) -> None:
        edit(OLD_SOURCES["Model"].replace("class Model", "class Slim"))
        with pytest.raises(ClassChanged, match="is now a pydantic model"):
            decode(self.document("Slim"))
