"""Which invocation made what from which: by content, the same for whoever asks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.runtime.recording import lineage
from kitaru.wire.records import InvocationRecord, StoredValue


@checkpoint
def make(name: Any, *parts: Any) -> Any:
    return {"name": name, "of": len(parts)}


@checkpoint
def join(parts: Any) -> str:
    return "joined"


@checkpoint
def nothing(x: int) -> None:
    return None


def made(body: Any) -> dict[str, list[str]]:
    handle = flow(body).run()
    handle.wait(20)
    found = KitaruClient().executions.lineage(handle.exec_id)
    return {id: list(parents) for id, parents in found.items()}


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
        found = make("a")
        found["more"] = 1
        join(found)

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
    assert list(lineage.related(chain, "b")) == ["a", "b", "c", "d"]
    assert list(lineage.related(chain, "c")) == ["a", "b", "other", "c", "d"]
    assert list(lineage.related(chain, "e")) == ["other", "e"]


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
def test_a_value_that_is_handed_on_is_recognised(value: Any) -> None:
    digest = kitaru.runtime.recording.values.canonical.digest(kitaru.runtime.codec.encode(value))
    first = InvocationRecord(
        "a", "a", "checkpoint", "m.a", "", "completed", StoredValue(digest=digest), position=1
    )
    second = replace(first, id="b", uses=lineage.uses((), {"x": [1, {"k": value}]}), position=2)
    mute = value is None or isinstance(value, bool) or value in ("", [], {}, ())
    assert lineage.parents([first, second])["b"] == (() if mute else ("a",))
