"""Two executions side by side: what went in, what ran, what came out, what it took."""

from __future__ import annotations

from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, errors, flow
from kitaru.cli.render import comparison as comparisons
from kitaru.runtime.executions.comparison import Comparison
from kitaru.runtime.journal.effort import Effort
from kitaru.runtime.llm import providers

FAILS: list[bool] = []


@pytest.mark.parametrize(
    ("cost", "shown"), [(None, ""), (0.0000137, ", $0.000014"), (1.25, ", $1.2500")]
)
def test_a_small_price_is_not_shown_as_none(cost: float | None, shown: str) -> None:
    assert comparisons.effort(Effort(30, cost, 1.5)) == f"1.50 s, 30 tokens{shown}"


@checkpoint
def one(x: int) -> int:
    return x


@checkpoint(retries=1)
def asks(prompt: str) -> str:
    text = kitaru.llm(prompt, model="vendor/m-1")
    if FAILS:
        FAILS.pop()
        raise ValueError("again")
    return text


@checkpoint
def two(x: int) -> int:
    return x + 1


@flow
def either(way: str, n: int = 1) -> list[Any]:
    kitaru.log(noted=way)
    found = [one(n), asks(f"about {n}")]
    return [*found, two(n) if way == "two" else one(5)]


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: Any, resolved: Any, pieces: Any) -> providers.Answer:
        return providers.Answer("text", 10, 5, 0.25)

    monkeypatch.setattr(providers, "_reach", answer)
    FAILS.clear()


def ran(*args: Any, **options: Any) -> str:
    handle = either.options(**options).run(*args)
    handle.wait(60)
    return handle.exec_id


def diff(a: str, b: str) -> Comparison:
    return KitaruClient().executions.diff(a, b)


def test_the_same_twice_and_what_the_cache_did() -> None:
    first = ran("two")
    found = diff(first, ran("two"))
    assert found.same and {row.change for row in found.rows} == {"same"}
    assert found.a.total.tokens == found.b.total.tokens == 15
    assert (found.a.own.tokens, found.b.own) == (15, Effort())
    assert [row.b["how"] for row in found.rows if row.b] == ["cached"] * 3


@flow
def rounds(count: int) -> int:
    found = one(9)
    for number in range(count):
        found = two(number)
    return one(found)


def test_what_only_one_of_them_ran_stands_where_it_ran() -> None:
    handles = [rounds.run(count) for count in (1, 3)]
    for handle in handles:
        handle.wait(60)
    found = diff(*(handle.exec_id for handle in handles))
    assert [row.id for row in found.rows] == ["one", "two", "two_2", "two_3", "one_2"]
    back = diff(*(handle.exec_id for handle in reversed(handles)))
    assert [row.id for row in back.rows] == ["one", "two", "two_2", "two_3", "one_2"]


def test_another_way() -> None:
    found = diff(ran("two"), ran("other", cache=False))
    assert not found.same
    assert [(row.id, row.change) for row in found.rows] == [
        ("one", "same"),
        ("asks", "same"),
        ("two", "only a"),
        ("one_2", "only b"),
    ]
    assert found.a.inputs == {"way": "two", "n": 1}
    assert (found.a.result[-1], found.b.result[-1]) == (2, 5)


def test_other_arguments_and_a_given_result() -> None:
    source = ran("two")
    given = either.replay(source, start="two", results={"one": 1})
    given.wait(60)
    assert diff(source, given.exec_id).same, "the same result, given"
    other = either.replay(source, inputs={"n": 2})
    other.wait(60)
    rows = {row.id: row for row in diff(source, other.exec_id).rows}
    assert rows["asks"].change == "changed" and rows["asks"].result and not rows["asks"].inputs
    assert rows["one"].change == "changed" and not rows["one"].result


def test_failed_attempts_cost_as_well_and_adopted_work_is_not_its_own() -> None:
    FAILS.append(True)
    source = ran("two", cache=False)
    replayed = either.replay(source, start="two")
    replayed.wait(60)
    found = diff(source, replayed.exec_id)
    assert (found.a.total.tokens, found.a.total.cost, found.a.own.cost) == (30, 0.5, 0.5)
    assert (found.b.total.tokens, found.b.own.tokens, found.b.own.cost) == (15, 0, None)
    assert found.same


def test_one_that_is_not_there() -> None:
    with pytest.raises(errors.NotFound):
        diff(ran("two"), "nobody")
