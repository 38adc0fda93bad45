"""The timeline: bars at their places, folded idle time, groups, attempts and waits."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitaru.runtime.executions.overview import Overview
from kitaru.runtime.journal.effort import Effort
from kitaru.runtime.telemetry.beats import UnderWay
from kitaru.wire.records import AttemptRecord, ErrorInfo, InvocationRecord, WaitRequest

pytest.importorskip("fastapi")

from kitaru.server.pages.timeline import Bar, Row, Timeline, timeline

START = datetime(2026, 11, 30, 9, tzinfo=UTC)


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def called(id: str, start: float, end: float, **fields: object) -> InvocationRecord:
    name = id.partition("_")[0]
    record = InvocationRecord(id, name, "checkpoint", "m.f", "", "completed")
    return replace(record, started_at=at(start), ended_at=at(end), **fields)  # type: ignore[arg-type]


def attempt(id: str, number: int, start: float, end: float) -> AttemptRecord:
    error = ErrorInfo("RateLimitError", "slow down")
    return AttemptRecord(id, number, error, started_at=at(start), ended_at=at(end))


def seen(page: list[InvocationRecord], attempts: tuple[AttemptRecord, ...] = ()) -> Overview:
    return Overview(
        total=len(page), counts=(), page=page, next=None, last=[], failed=[],
        attempts=[*attempts], attempts_total=len(attempts), effort=Effort(), own=Effort(),
        failed_attempts=Effort(), unpriced=0, last_sign="", notes={},
    )  # fmt: skip


def drawn(
    page: list[InvocationRecord], *attempts: AttemptRecord, opened: str = "", now: float = 100,
    requests: tuple[WaitRequest, ...] = (), folds: bool = True,
) -> Timeline:  # fmt: skip
    waits = [one.name for one in requests if one.name not in {record.id for record in page}]
    return timeline(
        at(0), seen(page, attempts), requests, waits, now=at(now), opened=opened, folds=folds
    )


def test_bars_are_at_their_places() -> None:
    found = drawn([called("a", 0, 1), called("b", 1, 4)])
    bars = [found.drawn(row)[0] for row in found.rows]
    assert [(bar.x, bar.width) for bar in bars] == [(0, 25), (25, 75)]
    assert found.folds == [] and [mark.moment for mark in found.marks] == [at(0)]


def test_idle_time_is_folded() -> None:
    page = [called("a", 0, 1), called("b", 86_401, 86_402)]
    found = drawn(page)
    [(x, width, seconds)] = found.folds
    assert seconds == 86_400 and width == 3 and x == pytest.approx(48.5)
    assert found.drawn(found.rows[1])[0].width == pytest.approx(48.5)
    assert len(drawn(page, folds=False).folds) == 0


def test_a_wait_is_idle_time() -> None:
    request = WaitRequest("ok", "Publish?", {}, asked_at=at(1))
    answered = called("ok", 1, 50, kind="wait")
    found = drawn([called("a", 0, 1), answered, called("b", 50, 51)], requests=(request,))
    assert [row.icon for row in found.rows] == ["completed", "completed", "completed"]
    assert found.rows[1].bars == [Bar("waits", 1, 50)]
    assert len(found.folds) == 1
    still = drawn([called("a", 0, 1)], requests=(request,), now=61)
    assert (still.rows[1].icon, still.rows[1].seconds) == ("waiting", 60)
    assert still.rows[1].note == "Publish?"


def test_attempts_are_bars_of_one_row() -> None:
    found = drawn([called("a", 0, 5)], attempt("a", 1, 0, 1), attempt("a", 2, 2, 3))
    [row] = found.rows
    assert row.bars == [Bar("failed", 0, 1), Bar("failed", 2, 3), Bar("ran", 3, 5)]
    assert (row.note, row.seconds) == ("3 attempts", 5)


def test_a_call_that_is_not_recorded_yet_has_its_failed_attempts() -> None:
    found = drawn([], attempt("a", 1, 0, 1), attempt("a", 2, 2, 3))
    [row] = found.rows
    assert (row.key, row.icon, row.note) == ("a", "failed", "2 attempts, RateLimitError")


def test_what_runs_now_has_a_bar_that_ends_now() -> None:
    under_way = (UnderWay("a", 1, "m.py:3", at(0), at(9)), UnderWay("b", 2, "m.py:4", at(5), at(9)))
    page = [called("a", 0, 4)]
    found = timeline(
        at(0), seen(page, (attempt("b", 1, 4, 5),)), (), (), under_way, now=at(10), folds=False
    )
    assert [(row.key, row.icon, row.note, row.site) for row in found.rows] == [
        ("a", "completed", "", ""), ("b", "running", "attempt 2", "m.py:4"),
    ]  # fmt: skip
    assert found.rows[1].bars == [Bar("failed", 4, 5), Bar("runs", 5, 10)]


def test_calls_of_one_checkpoint_are_a_group() -> None:
    page = [called("a", 0, 1), *[called(f"b_{n}", n, n + 1) for n in range(1, 7)]]
    page[3] = replace(page[3], status="failed", error=ErrorInfo("ValueError", "no"))
    page[4] = replace(page[4], cached_from="other/b")
    found = drawn(page)
    assert [row.name for row in found.rows] == ["a", "b"]
    group = found.rows[1]
    assert (group.icon, group.note, group.opens) == ("failed", "× 6 · 1 reused · 1 failed", "b_1")
    assert group.bars[-1].kind == "failed"
    opened = drawn(page, opened="b_1")
    assert [row.key for row in opened.rows] == ["a", "b_1", *[f"b_{n}" for n in range(1, 7)]]
    assert {row.depth for row in opened.rows[2:]} == {1}


def test_model_calls_are_below_their_checkpoint() -> None:
    call = {"model": "strong", "resolved": "openai/gpt-4.1", "latency_s": 2.0,
            "started_at": at(1), "tokens": {"prompt": 5, "completion": 2}}  # fmt: skip
    found = drawn([called("a", 0, 4, calls=(call,))])
    assert [(row.key, row.name, row.note, row.depth, row.tokens) for row in found.rows] == [
        ("a", "a", "", 0, 7), ("a/call-1", "openai/gpt-4.1", "strong", 1, 7),
    ]  # fmt: skip
    assert found.rows[1].bars == [Bar("llm", 1, 3)]


def test_clocks_that_differ_move_no_bar_before_the_start() -> None:
    found = drawn([called("a", -5, -7), called("b", 3, 2)])
    assert [row.bars[0] for row in found.rows] == [Bar("ran", 0, 0), Bar("ran", 3, 3)]


SPANS = st.lists(
    st.tuples(st.floats(0, 1e7), st.floats(0, 1e6), st.sampled_from(["ran", "waits", "failed"])),
    max_size=12,
)


@given(SPANS, st.booleans())
def test_every_bar_is_on_the_axis_and_in_order(
    spans: list[tuple[float, float, str]], folds: bool
) -> None:
    rows = [
        Row(str(n), "", "", bars=[Bar(kind, start, start + length)])  # type: ignore[arg-type]
        for n, (start, length, kind) in enumerate(spans)
    ]
    found = Timeline(at(0), rows, folds=folds)
    places = [found.drawn(row)[0] for row in rows]
    for bar in places:
        assert bar.x >= -1e-6 and bar.width > 0 and bar.x + bar.width <= 100.01
    for (start, *_), bar in zip(spans, places, strict=True):
        for (other, *_), second in zip(spans, places, strict=True):
            assert start > other or bar.x <= second.x + 0.51
    assert all(0 <= mark.x <= 100 for mark in found.marks)
