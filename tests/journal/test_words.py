"""Ids, names, canonical bytes and moments: the small words everything else is spelled in."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitaru.errors import UsageError
from kitaru.wire import canonical, ids, times
from kitaru.wire.ids import (
    Counters,
    check_execution_id,
    new_ascending_id,
    new_execution_id,
)
from kitaru.wire.names import check_name

NAMES = st.sampled_from(["a", "b", "a_2", "a_3", "a_2_2", "a_02", "a_1", "b_10"])


def test_execution_ids_are_legal_and_unique() -> None:
    made = [new_execution_id() for _ in range(200)]
    assert len({*made}) == 200
    assert [check_execution_id(id) for id in made] == made


def test_execution_ids_are_spread_over_all_first_characters() -> None:
    """A bucket is split by ranges of keys: what runs at once must not lie in one range."""
    first = Counter(new_execution_id()[0] for _ in range(3_200))
    assert len(first) == 32
    assert max(first.values()) < 200


def test_the_second_half_of_an_execution_id_is_when_it_was_made() -> None:
    made = [new_execution_id() for _ in range(200)]
    assert made == sorted(made, key=lambda id: id.partition("-")[2])


def test_ids_that_ascend() -> None:
    made = [new_ascending_id() for _ in range(200)]
    assert made == sorted({*made})


@pytest.mark.parametrize("clock", [-(10**18), 0, 10**19])
def test_ids_and_moments_bear_any_clock(monkeypatch: pytest.MonkeyPatch, clock: int) -> None:
    monkeypatch.setattr(times.time, "time_ns", lambda: clock)
    monkeypatch.setattr(ids, "_last_ms", 0)
    first, second = new_ascending_id(), new_ascending_id()
    assert check_execution_id(first) < check_execution_id(second)


@pytest.mark.parametrize("id", ["", "-a", "A", "a_b", "a/b", "ä", "a" * 64, "a\n", 3])
def test_what_is_no_execution_id(id: str) -> None:
    with pytest.raises(UsageError):
        check_execution_id(id)


@pytest.mark.parametrize("name", ["a", "_a", "A-b_9", "a" * 100])
def test_what_is_a_name(name: str) -> None:
    assert check_name("flow", name) == name


@pytest.mark.parametrize(
    "name",
    ["", "-a", "9a", "a b", "a'", "../a", "a\n", "é", "\u202ea", "a" * 101, "<lambda>", None],
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a flow"):
        check_name("flow", name)


def test_names_are_counted() -> None:
    counters = Counters()
    assert [counters.take("a") for _ in range(3)] == ["a", "a_2", "a_3"]
    assert counters.take("b") == "b"


def test_an_id_that_is_another_ones_name_is_skipped() -> None:
    counters = Counters()
    assert [counters.take(name) for name in ("a_2", "a", "a", "a_2")] == [
        "a_2",
        "a",
        "a_3",
        "a_2_2",
    ]


def test_an_explicit_id_is_taken_once() -> None:
    counters = Counters()
    assert counters.take_explicit("mine") == "mine"
    for taken in ("mine", "a_2"):
        counters.take("a"), counters.take("a")
        with pytest.raises(UsageError, match="taken"):
            counters.take_explicit(taken)
    assert counters.take("mine") == "mine_2"


@given(st.lists(st.tuples(st.booleans(), NAMES), max_size=30), st.integers(0, 30))
def test_no_id_is_given_twice_even_across_frames(calls: list[tuple[bool, str]], cut: int) -> None:
    counters, whole = Counters(), Counters()
    given: list[str] = []
    for number, (explicit, name) in enumerate(calls):
        if number == cut:
            counters = Counters.from_json(counters.to_json())
        try:
            id = counters.take_explicit(name) if explicit else counters.take(name)
        except UsageError:
            assert name in given
            with pytest.raises(UsageError):
                whole.take_explicit(name)
            continue
        assert id not in given
        assert id == (whole.take_explicit(name) if explicit else whole.take(name))
        given.append(id)
    assert Counters.from_json(counters.to_json()).to_json() == whole.to_json()


def test_counters_stay_small() -> None:
    counters = Counters()
    for _ in range(1000):
        counters.take("step")
    assert counters.to_json() == {"step": 1000}


def test_canonical_bytes() -> None:
    assert canonical.dumps({"b": [1, 1.0, True, None], "a": "é"}) == (
        b'{"a":"\\u00e9","b":[1,1.0,true,null]}'
    )
    assert canonical.digest({}) == canonical.sha256(b"{}")
    assert canonical.sha256(b"").startswith("sha256:e3b0c442") and len(canonical.sha256(b"")) == 71
    with pytest.raises(ValueError):
        canonical.dumps(float("nan"))


def test_moments_sort_backwards_and_come_back() -> None:
    moments = ["1970-01-01T00:00:00.000000Z", "2026-11-22T03:08:00.123456Z", times.now()]
    inverted = [times.invert(moment) for moment in moments]
    assert [times.uninvert(digits) for digits in inverted] == moments
    assert {len(digits) for digits in inverted} == {16}
    assert sorted(inverted, reverse=True) == inverted


def test_moments_outside_the_range_count_as_the_nearest() -> None:
    assert times.invert("1950-01-01T00:00:00.000000Z") == "9" * 16
    assert times.invert("9999-01-01T00:00:00.000000Z") == "0" * 16
