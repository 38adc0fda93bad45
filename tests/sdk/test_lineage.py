"""Lineage: which earlier results each invocation used, by content, the same for every reader."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import kitaru
from kitaru import KitaruClient, checkpoint, flow, memory
from kitaru.ops.lineage import related
from kitaru.runtime import codec
from kitaru.runtime.codec.subvalues import values_inside
from kitaru.runtime.journal import lineage
from kitaru.wire import canonical
from kitaru.wire.records import InvocationRecord, StoredValue

BARE = InvocationRecord("a", "a", "checkpoint", "m.a", "", "completed")


@checkpoint
def make(name: Any, *parts: Any) -> Any:
    return {"name": name, "of": len(parts)}


@checkpoint
def join(parts: Any) -> str:
    return "joined"


@checkpoint
def nothing(x: int) -> None:
    return None


def traced(record: InvocationRecord) -> lineage.Trace:
    assert record.value is not None
    whole = (lineage._short(record.value.digest),)
    return lineage.Trace(
        record.position, record.id, (record.callee, record.site), record.uses, whole, ()
    )


def made(body: Any) -> dict[str, list[str]]:
    handle = flow(body).run()
    handle.wait(60)
    found = KitaruClient().executions.lineage(handle.exec_id)
    return {id: list(parents) for id, parents in found.items()}


def test_a_part_of_one_result_beside_another_that_is_whole() -> None:
    def body() -> None:
        a, pair = make("a"), make(["one", "two"])
        make("letter", a, pair["name"][0])
        join([a, pair["name"], pair])
        join(a)

    assert made(body) == {
        "make": [],
        "make_2": [],
        "make_3": ["make", "make_2"],
        "join": ["make", "make_2"],
        "join_2": ["make"],
    }


def test_whole_results_and_results_inside_arguments() -> None:
    def body() -> None:
        a, b = make("a"), make("b")
        c = make("c", a)
        join([a, {"deep": (b, 1)}])
        join(c)

    assert made(body) == {
        "make": [],
        "make_2": [],
        "make_3": ["make"],
        "join": ["make", "make_2"],
        "join_2": ["make_3"],
    }


@dataclass
class Ticket:
    text: str
    tags: list[str]


@checkpoint
def several() -> list[Any]:
    return [Ticket("x", ["new"]), {"z": 1, "a": [2]}, "text", (1, "long" * 100)]


@checkpoint
def weigh(of: Any, more: int = 0) -> dict[str, Any]:
    return {"of": of, "more": more}


def test_parts_of_a_result_are_recognised() -> None:
    def body() -> None:
        found = several()
        weights = [weigh.submit(one) for one in found]
        join([future.result() for future in weights])
        weigh(found[1]["a"])
        weigh({"in": [found[3]]}, 5)
        weigh(1)

    weights = ["weigh", "weigh_2", "weigh_3", "weigh_4"]
    assert made(body) == {
        "several": [],
        **{one: ["several"] for one in weights},
        "join": weights,
        "weigh_5": ["weigh_2"],
        "weigh_6": ["weigh_4"],
        "weigh_7": [],
    }


@given(st.integers(), st.integers())
def test_a_line_is_its_own_parent_only_where_no_other_is(x: int, y: int) -> None:
    def record(id: str, site: str, uses: list[int], value: int) -> InvocationRecord:
        digest = canonical.digest(value)
        found = tuple(lineage.argument_digests(tuple(uses), {}))
        return replace(BARE, id=id, site=site, uses=found, value=StoredValue(digest=digest))

    first, second = record("a", "f.py:1", [], x), record("b", "f.py:2", [x], x)
    third = record("c", "f.py:2", [x], y)
    fourth = record("d", "f.py:2", [y], 0)
    found = lineage.parents_by_content(map(traced, (first, second, third, fourth)))
    assert (found["b"], found["c"]) == (("a",), ("a",))
    assert found["d"] == (("a",) if x == y else ("c",))


def test_futures_waits_and_models() -> None:
    def body() -> None:
        futures = [make.submit(name) for name in "xyz"]
        found = [future.result() for future in futures]
        join(found)
        kitaru.llm(join(found[1:]), model="fast")

    assert made(body) == {
        "make": [],
        "make_2": [],
        "make_3": [],
        "join": ["make", "make_2", "make_3"],
        "join_2": ["make_2", "make_3"],
        # Of two with the same result it is the last.
        "llm": ["join_2"],
    }


def test_what_says_nothing_is_nobodys() -> None:
    def body() -> None:
        found = nothing(1)
        make(found)
        make("changed in the body")["name"] = 1

    assert made(body) == {"nothing": [], "make": [], "make_2": []}


def test_what_the_body_made_of_it_is_not_followed() -> None:
    def body() -> None:
        join(f"{make('a')}")

    assert made(body)["join"] == []


def test_related_is_what_came_before_and_after() -> None:
    chain: dict[str, tuple[str, ...]] = {
        "a": (),
        "b": ("a",),
        "other": (),
        "c": ("b", "other"),
        "d": ("c",),
        "e": ("other",),
    }
    assert list(related(chain, "b")) == ["a", "b", "c", "d"]
    assert list(related(chain, "c")) == ["a", "b", "other", "c", "d"]
    assert list(related(chain, "e")) == ["other", "e"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_parts_are_known_without_their_classes(value: Any) -> None:
    def inside(one: Any) -> list[Any]:
        if type(one) is dict:
            return list(one.values())
        return list(one) if type(one) in (list, tuple) else []

    first = inside(value)
    expected = [*first, *(part for one in first for part in inside(one))]
    document = json.loads(json.dumps(codec.encode(value)))
    assert list(values_inside(document, 2)) == [codec.encode(part) for part in expected]


@given(VALUES)
def test_a_value_that_is_handed_on_is_recognised(value: Any) -> None:
    digest = kitaru.runtime.journal.blobs.canonical.digest(kitaru.runtime.codec.encode(value))
    first = InvocationRecord(
        "a", "a", "checkpoint", "m.a", "", "completed", StoredValue(digest=digest), position=1
    )
    second = replace(
        first, id="b", uses=lineage.argument_digests((), {"x": [1, {"k": value}]}), position=2
    )
    mute = value is None or isinstance(value, bool) or value in ("", [], {}, ())
    assert lineage.parents_by_content(map(traced, (first, second)))["b"] == (() if mute else ("a",))


@checkpoint
def toned(tone: Any) -> str:
    return f"in {tone}"


@flow
def from_memory() -> list[str]:
    memory.set("tone", "a warm tone of voice")
    memory.set("people", [{"name": "Alice Ames"}, "Bob"])
    tone, people = memory.get("tone"), memory.get("people")
    return [toned(tone), toned(people), toned(people[0]["name"]), toned(tone + " still")]


def test_what_was_read_from_a_memory_is_where_a_value_is_from() -> None:
    handle = from_memory.run()
    handle.wait(60)
    found = KitaruClient().executions.lineage(handle.exec_id)
    assert [found[id] for id in ("toned", "toned_2", "toned_3", "toned_4")] == [
        ("memory_get",), ("memory_get_2",), ("memory_get_2",), (),
    ]  # fmt: skip
