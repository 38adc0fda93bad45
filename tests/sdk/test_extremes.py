"""What is too deep, or no JSON, comes back the same or is refused with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.cli.values import parse_value
from kitaru.errors import AnswerInvalid, CheckpointFailed
from kitaru.runtime import codec
from kitaru.runtime.engine.waits import check_json
from kitaru.runtime.journal import blobs
from kitaru.stores.memory import MemoryStore
from kitaru.wire import canonical
from kitaru.wire.limits import MAX_ANSWER_DEPTH

BOMB = 10_000
EDGES = st.one_of(
    st.floats(),
    st.integers(),
    st.integers(4000, 6000).map(lambda digits: -(10**digits)),
    st.sampled_from(["k" * 300_000, "\ud800", "\udfff\ud800", ""]),
    st.text(st.characters(exclude_categories=()), max_size=4),
)
NESTED = st.recursive(
    EDGES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(EDGES, inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def depth_of(value: Any) -> int:
    depth = 0
    while type(value) is list:
        value, depth = value[0], depth + 1
    return depth


@checkpoint
def wrapped(value: Any) -> Any:
    return [value]


@flow
def everywhere(value: Any) -> Any:
    kitaru.memory.set("deep", wrapped(value))
    return kitaru.memory.get("deep")


@flow
def asking() -> Any:
    return kitaru.wait(name="a", schema=list)


def test_a_bomb_goes_in_through_and_out() -> None:
    assert depth_of(everywhere.run(nested(BOMB)).wait()) == BOMB + 1


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (nested(BOMB), "nested over 200 deep"),
        ([float("nan")], r"a\[0\] is not valid JSON data"),
        ([1, {"k": [float("-inf")]}], r"a\[1\]\['k'\]\[0\] is not valid JSON data"),
        ([10**5000], r"a\[0\] is not valid JSON data"),
        (["\ud800"], r"a\[0\] is not valid JSON data"),
        ([{"\ud800": 1}], r"a\[0\] is not valid JSON data"),
        ([{1: 1}], r"a\[0\] is not valid JSON data"),
        ([(1,)], r"a\[0\] is not valid JSON data"),
    ],
)
def test_an_answer_that_is_no_json_is_refused_and_it_still_waits(value: Any, where: str) -> None:
    handle = asking.run()
    assert handle.settle(60) == "waiting"
    client = KitaruClient()
    with pytest.raises(AnswerInvalid, match=where):
        client.executions.input(handle.exec_id, value, wait="a")
    assert client.executions.input(handle.exec_id, ["x" * 300_000], wait="a").wait(60)


def test_an_answer_may_be_as_deep_as_the_limit_says() -> None:
    check_json(nested(MAX_ANSWER_DEPTH), "a")
    with pytest.raises(AnswerInvalid):
        check_json(nested(MAX_ANSWER_DEPTH + 1), "a")


def test_an_input_that_is_a_bomb_is_text() -> None:
    text = "[" * 100_000 + "]" * 100_000
    assert parse_value(text) == text


@given(NESTED)
def test_any_edge_is_stored_as_json_of_the_world_and_comes_back(value: Any) -> None:
    store = MemoryStore()
    stored = blobs.keep(store, "x/e/", value, "result")
    objects = [store.get(key) or b"" for key in store.list("x/e/")]
    for data in [canonical.dumps(stored.data), *(one for one in objects if one[:1] in b'[{"')]:
        json.loads(data, parse_constant=pytest.fail)
    again = codec.decode(blobs.load_value(store, "x/e/", stored))
    assert repr(_written(again)) == repr(_written(value))


def _written(value: Any) -> Any:
    # Python refuses to print integers of thousands of digits.
    if type(value) is int:
        return hex(value)
    if isinstance(value, list | tuple):
        return type(value)(map(_written, value))
    if type(value) is dict:
        return {_written(key): _written(held) for key, held in value.items()}
    return value


def test_a_result_that_is_too_large_names_checkpoint_part_and_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @checkpoint
    def large() -> Any:
        return {"pages": [b"short", bytes(400_000)]}

    @flow
    def overflowing() -> Any:
        return large()

    monkeypatch.setattr(blobs, "MAX_VALUE_BYTES", 300_000)
    with pytest.raises(CheckpointFailed) as caught:
        overflowing.run().wait()
    message = str(caught.value.__cause__)
    for said in ("checkpoint large", 'result["pages"][1]', "400,000 bytes", "300,000 are allowed"):
        assert said in message
    assert "Write it to a file" in message
