"""A replay reuses earlier records and runs the rest again. Its source does not change."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, errors, flow
from kitaru.client import Executions
from kitaru.runtime.llm import providers
from kitaru.stores import open_store
from tests.recorder import Calls

RAN = Calls()
LARGE = "large " * 20_000
WORLD: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    RAN.clear()
    WORLD.clear()
    yield


@dataclasses.dataclass
class Brief:
    topic: str
    words: int


@checkpoint
def a(x: int) -> int:
    RAN.append(f"a {x}")
    return x + 1


@checkpoint
def b(x: int) -> int:
    RAN.append(f"b {x}")
    if WORLD.get("broken") == "b":
        raise ValueError("b is broken")
    return x * 2


@checkpoint
def c(x: int) -> int:
    RAN.append(f"c {x}")
    return x - WORLD.get("less", 0)


@checkpoint
def brief(topic: str) -> Brief:
    RAN.append("brief")
    return Brief(topic, 3)


@checkpoint
def large() -> str:
    RAN.append("large")
    return LARGE


@checkpoint
def length(text: str) -> int:
    RAN.append("length")
    return len(text)


@flow
def chain(n: int = 1) -> int:
    return c(b(a(n)))


@pytest.fixture
def client() -> Executions:
    return KitaruClient().executions


def done(run: Any, *args: Any) -> str:
    """Run to the end, forget what ran, and return the execution's id."""
    handle = run.run(*args)
    handle.wait(60)
    RAN.clear()
    return str(handle.exec_id)


def ids(client: Executions, exec_id: str) -> list[str]:
    return [record.id for record in client.get(exec_id).invocations]


def snapshot(exec_id: str) -> dict[str, bytes | None]:
    store = open_store()
    return {key: store.get(key) for key in store.list(f"x/{exec_id}/")}


def test_what_precedes_is_adopted_and_the_rest_runs(client: Executions) -> None:
    source = done(chain)
    before = snapshot(source)
    WORLD["less"] = 1
    handle = chain.replay(source, start="b")
    assert handle.wait(60) == 3
    assert RAN == ["b 2", "c 4"]
    assert handle.exec_id != source
    view = client.get(handle.exec_id)
    assert view.journal.execution.replay is not None
    assert view.journal.execution.replay.source == source
    assert [r.adopted_from for r in view.invocations] == [f"{source}/a", "", ""]
    assert snapshot(source) == before, "nothing recorded is changed"


def test_the_cache_hides_nothing_and_learns_nothing(client: Executions) -> None:
    source = done(chain)
    WORLD["less"] = 1
    assert chain.replay(source).wait(60) == 3
    assert RAN == ["a 1", "b 2", "c 4"]
    RAN.clear()
    WORLD.clear()
    assert chain.run().wait(60) == 4, "the replay's results are not in the cache"
    assert RAN == []


def test_a_selector_that_means_nothing_or_too_much(client: Executions) -> None:
    @flow
    def named() -> int:
        return a(1, id="first") + a(2, id="second") + b(1) + b(2)  # type: ignore[call-arg]

    source = done(named)
    with pytest.raises(errors.NotFound) as none:
        named.replay(source, start="nothing")
    assert "first, second, b, b_2" in none.value.help
    with pytest.raises(errors.UsageError) as several:
        named.replay(source, start="a")
    assert "first, second" in several.value.help
    with pytest.raises(errors.NotFound):
        named.replay(source, results={"nothing": 1})
    with pytest.raises(errors.UsageError):
        named.replay(source, start="b", at_failure=True)
    assert len(client.list()) == 1, "nothing was begun"
    named.replay(source, start="b_2").wait(60)
    assert RAN == ["b 2"]


def test_a_given_result_is_seen(client: Executions) -> None:
    source = done(chain)
    handle = chain.replay(source, start="b", results={"a": 10})
    assert handle.wait(60) == 20
    assert RAN == ["b 10", "c 20"]
    record = client.get(handle.exec_id).invocations[0]
    assert (record.id, record.given, record.attempts) == ("a", True, 0)


def test_a_given_result_counts_whatever_the_call_is_now(client: Executions) -> None:
    source = done(chain)
    assert chain.replay(source, results={"b": 7}, inputs={"n": 5}).wait(60) == 7
    assert RAN == ["a 5", "c 7"]


def test_a_given_result_becomes_what_was_recorded() -> None:
    @flow
    def typed() -> str:
        found = brief("owls")
        return f"{type(found).__name__} {found.topic} {found.words}"

    source = done(typed)
    json = {"topic": "kites", "words": 4}
    assert typed.replay(source, results={"brief": json}).wait(60) == "Brief kites 4"
    assert typed.replay(source, results={"brief": Brief("x", 1)}).wait(60) == "Brief x 1"
    with pytest.raises(errors.AnswerInvalid, match="brief"):
        typed.replay(source, results={"brief": {"topic": "kites"}})


def test_json_cannot_stand_for_a_list_of_objects() -> None:
    @checkpoint
    def briefs() -> list[Brief]:
        return [Brief("x", 1)]

    @flow
    def listing() -> int:
        return len(briefs())

    source = done(listing)
    with pytest.raises(errors.UsageError, match="list that holds objects"):
        listing.replay(source, results={"briefs": [{"topic": "x", "words": 1}]})
    assert listing.replay(source, results={"briefs": [Brief("x", 1)] * 3}).wait(60) == 3


def test_an_input_that_adopted_work_read_is_refused(client: Executions) -> None:
    source = done(chain)
    handle = chain.replay(source, start="b", inputs={"n": 5})
    with pytest.raises(errors.Diverged) as error:
        handle.wait(60)
    assert '"a"' in error.value.message and "arguments" in error.value.message
    assert f"kitaru executions replay {source} --from a" in error.value.help
    assert RAN == []


def test_inputs_are_checked_before_anything_begins(client: Executions) -> None:
    source = done(chain)
    with pytest.raises(errors.InputError, match="'m'"):
        chain.replay(source, inputs={"m": 5})
    with pytest.raises(errors.InputError):
        chain.replay(source, inputs={"n": "five"})
    assert len(client.list()) == 1


@flow
def branching(way: str) -> int:
    first = a(1)
    if way == "b":
        return b(first)
    return c(first) + b(first)


def test_another_branch_runs(client: Executions) -> None:
    source = done(branching, "b")
    handle = branching.replay(source, start="b", inputs={"way": "c"})
    assert handle.wait(60) == 6
    assert RAN == ["c 2", "b 2"]
    assert ids(client, handle.exec_id) == ["a", "c", "b"]


def test_a_result_that_nobody_asks_for_is_told(
    client: Executions, caplog: pytest.LogCaptureFixture
) -> None:
    source = done(branching, "b")
    branching.replay(source, results={"a": 1, "b": 7}, inputs={"way": "c"}).wait(60)
    assert not caplog.messages
    other = done(branching, "c")
    branching.replay(other, results={"c": 7}, inputs={"way": "b"}).wait(60)
    (told,) = caplog.messages
    assert told.endswith(f"this replay of {other} reused: c")


def test_what_came_after_the_start_is_never_adopted() -> None:
    """Although the start is not reached any more, and the later call is the same."""

    @flow
    def skips(skip: bool = False) -> int:
        if not skip:
            b(5)
        return c(1)

    source = done(skips)
    skips.replay(source, start="b", inputs={"skip": True}).wait(60)
    assert RAN == ["c 1"]


def test_at_the_failure(client: Executions) -> None:
    WORLD["broken"] = "b"
    handle = chain.run()
    with pytest.raises(errors.CheckpointFailed):
        handle.wait(60)
    RAN.clear()
    WORLD.clear()
    again = chain.replay(handle.exec_id, at_failure=True)
    assert again.wait(60) == 4
    assert RAN == ["b 2", "c 4"]
    RAN.clear()
    assert chain.replay(handle.exec_id, at_failure=True, results={"b": 9}).wait(60) == 9
    assert RAN == ["c 9"]
    assert client.get(handle.exec_id).status == "failed", "the source may still be retried"
    with pytest.raises(errors.StateError, match="did not fail"):
        chain.replay(again.exec_id, at_failure=True)


def test_from_a_caught_failure_it_is_tried_again(client: Executions) -> None:
    @flow
    def catches() -> int:
        first = a(1)
        try:
            return b(first)
        except ValueError:
            return c(first)

    WORLD["broken"] = "b"
    source = done(catches)
    assert [r.status for r in client.get(source).invocations] == [
        "completed",
        "failed",
        "completed",
    ]
    adopted = catches.replay(source, start="c")
    assert adopted.wait(60) == 2
    assert RAN == ["c 2"], "the sealed failure was adopted"
    RAN.clear()
    WORLD.clear()
    assert catches.replay(source, start="b").wait(60) == 4
    assert RAN == ["b 2"]


def test_waits_before_the_start_keep_their_answer_and_later_ones_ask(client: Executions) -> None:
    @flow
    def asks() -> list[Any]:
        first = kitaru.wait(name="first", schema=int)
        found = a(first)
        return [first, found, kitaru.wait(name="second", schema=int)]

    handle = asks.run()
    for answer in (3, 4):
        handle.settle(60)
        client.input(handle.exec_id, answer)
    assert handle.wait(60) == [3, 4, 4]
    RAN.clear()
    again = asks.replay(handle.exec_id, start="a")
    assert again.settle(60) == "waiting"
    assert RAN == ["a 3"]
    assert [wait.name for wait in client.get(again.exec_id).waits] == ["second"]
    assert client.input(again.exec_id, 9).wait(60) == [3, 4, 9]
    given = asks.replay(handle.exec_id, start="a", results={"second": 8})
    assert given.wait(60) == [3, 4, 8]
    with pytest.raises(errors.AnswerInvalid):
        asks.replay(handle.exec_id, start="a", results={"second": "eight"})


def test_from_a_wait_that_is_pending(client: Executions) -> None:
    @flow
    def asks() -> int:
        return a(2) + int(kitaru.wait(name="n", schema=int))

    waiting = asks.run()
    waiting.settle(60)
    RAN.clear()
    again = asks.replay(waiting.exec_id, start="n", results={"n": 5})
    assert again.wait(60) == 8
    assert RAN == []
    assert client.get(waiting.exec_id).status == "waiting"
    client.cancel(waiting.exec_id)


def test_large_values_are_referred_to_also_by_a_replay_of_a_replay() -> None:
    @flow
    def sizes() -> int:
        return length(large())

    source = done(sizes)
    first = sizes.replay(source, start="length")
    second = sizes.replay(first.exec_id if first.wait(60) else "", start="length")
    assert second.wait(60) == len(LARGE)
    assert RAN == ["length", "length"]
    store = open_store()
    assert not [key for key in store.list(f"x/{second.exec_id}/") if "/blob/" in key]


def test_submitted_calls_keep_their_place(client: Executions) -> None:
    @flow
    def many() -> list[int]:
        futures = [b.submit(x) for x in (1, 2, 3)]
        return [future.result() for future in futures] + [c(1)]

    source = done(many)
    assert many.replay(source, start="b_2").wait(60) == [2, 4, 6, 1]
    assert sorted(RAN) == ["b 2", "b 3", "c 1"]


def test_another_model(client: Executions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_MODELS", '{"fast": "offline"}')
    asked = []

    def through(request: Any, resolved: Any, pieces: Any) -> providers.Answer:
        asked.append(resolved.model)
        return providers.Answer(f"by {resolved.model}", 1, 2, 0.5)

    monkeypatch.setattr(providers, "_reach", through)

    @checkpoint
    def asks(prompt: str) -> str:
        return kitaru.llm(prompt, model="fast")

    @flow
    def talks() -> list[str]:
        return [asks("one"), kitaru.llm("two", model="fast"), asks("three")]

    source = done(talks)
    handle = talks.replay(source, start="llm", models={"fast": "vendor/big-1"})
    assert handle.wait(60)[1:] == ["by vendor/big-1"] * 2
    assert handle.get()[0].startswith("[kitaru offline model")
    assert asked == ["vendor/big-1"] * 2
    calls = [call for record in client.get(handle.exec_id).invocations for call in record.calls]
    assert [call["resolved"] for call in calls] == ["offline", "vendor/big-1", "vendor/big-1"]


def test_the_clients_replay_finds_the_flow_again(client: Executions) -> None:
    source = done(chain)
    assert client.replay(source, start="c").wait(60) == 4
    with pytest.raises(errors.NotFound):
        client.replay("nobody")

    @flow
    def other() -> int:
        return a(1)

    with pytest.raises(errors.StateError, match="belongs to chain"):
        other.replay(source)


def test_an_executions_own_memory_is_as_it_was_at_the_start(client: Executions) -> None:
    """The memory of the flow has its present values: it is not part of the execution."""

    @flow
    def remembers() -> list[Any]:
        kitaru.memory.set("n", 1, scope="execution")
        kitaru.memory.set("gone", LARGE, scope="execution")
        kitaru.memory.set("large", LARGE, scope="execution")
        kitaru.memory.delete("gone", scope="execution")
        found = a(kitaru.memory.get("n", scope="execution"))
        kitaru.memory.set("n", found, scope="execution")
        kitaru.memory.set("later", 1, scope="execution")
        versions = len(kitaru.memory.history("n", scope="execution"))
        size = len(kitaru.memory.get("large", scope="execution"))
        return [
            kitaru.memory.get("n", scope="execution"),
            versions,
            size,
            kitaru.memory.list(scope="execution"),
            kitaru.memory.set("shared", found),
        ]

    first = remembers.run()
    assert first.wait(60) == [2, 2, len(LARGE), ["large", "later", "n"], 1]
    for start, shared in (("a", 2), ("memory_set_4", 3), ("memory_set_5", 4), ("", 5)):
        again = remembers.replay(first.exec_id, start=start)
        assert again.wait(60) == [2, 2, len(LARGE), ["large", "later", "n"], shared], start
    memory = KitaruClient().memory
    replayed = remembers.replay(first.exec_id, start="memory_list")
    replayed.wait(60)
    scope = f"execution:{replayed.exec_id}"
    assert [v.operation for v in memory.history("n", scope=scope)] == [
        f"{replayed.exec_id}/memory_set",
        f"{replayed.exec_id}/memory_set_4",
    ]
