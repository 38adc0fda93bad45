"""The timeline of an execution: its invocations, attempts, model calls and waits on one axis.

Time in which nothing runs is folded to a small width. Otherwise a wait of two days would reduce
everything else to a line. Places are percentages of the axis, for SVG.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from statistics import median
from typing import Any, Literal

from kitaru.runtime.executions.overview import Overview
from kitaru.runtime.journal.effort import tokens_of
from kitaru.runtime.telemetry.beats import UnderWay
from kitaru.wire.records import AttemptRecord, InvocationRecord, WaitRequest

BarKind = Literal["ran", "reused", "failed", "waits", "llm", "runs"]

# Idle time is folded if it is longer than this, and than three times the median idle time.
_IDLE_SECONDS = 5.0
_FOLD = 3.0
_THINNEST = 0.5
# This many calls of one checkpoint in a row are one row, until it is opened.
_GROUP = 5
_MOST_BARS = 80
_MOST_MARKS = 5


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar between two moments, in seconds since the start."""

    kind: BarKind
    start: float
    end: float
    title: str = ""


@dataclass(slots=True)
class Row:
    """A row of the timeline.

    Attributes:
        key: identifies the row in the address of a page: `draft`, `draft/call-1`.
        icon: the icon of its status, or of its kind.
        name: its foreign name. `note` is a foreign remark.
        opens: for a group, the key with which it is opened.
        began_at: when it began, for the source that ran then.
    """

    key: str
    icon: str
    name: str
    note: str = ""
    depth: int = 0
    bars: list[Bar] = field(default_factory=list)
    tokens: int = 0
    seconds: float | None = None
    site: str = ""
    opens: str = ""
    began_at: str = ""


@dataclass(frozen=True, slots=True)
class PlacedBar:
    """A bar on the axis, in percent."""

    kind: BarKind
    x: float
    width: float
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A labelled place on the axis."""

    x: float
    moment: str


class Timeline:
    """Rows on an axis.

    Attributes:
        rows: the rows, in program order.
        folds: start and width of each folded time in percent, and its length in seconds.
        marks: labelled places.
    """

    def __init__(self, start: str, rows: list[Row], *, folds: bool = True) -> None:
        self._start = datetime.fromisoformat(start)
        self.rows = rows
        self._segments = _segments([bar for row in rows for bar in row.bars], folds)
        self.folds = [(x, width, end - begin) for begin, end, x, width, is_fold in self._segments
                      if is_fold]  # fmt: skip

    @property
    def marks(self) -> list[Mark]:
        """The start of the axis, and of each part after a fold, as far as labels have space."""
        found: list[Mark] = []
        for begin, _, x, _, is_fold in self._segments:
            if not is_fold and (not found or x - found[-1].x >= 100 / _MOST_MARKS):
                moment = self._start + timedelta(seconds=begin)
                found.append(Mark(round(x, 3), moment.isoformat().replace("+00:00", "Z")))
        return found

    def drawn(self, row: Row) -> list[PlacedBar]:
        """Return the bars of a row on the axis."""
        found = []
        for bar in row.bars:
            x, end = self._place(bar.start), self._place(bar.end)
            width = max(end - x, _THINNEST)
            x = min(x, 100 - width)
            found.append(PlacedBar(bar.kind, round(x, 3), round(width, 3), bar.title))
        return found

    def _place(self, second: float) -> float:
        for begin, end, x, width, _ in self._segments:
            if second <= end:
                share = (second - begin) / (end - begin) if end > begin else 0.0
                return x + width * max(0.0, share)
        return 100.0


def timeline(
    started_at: str, seen: Overview, requests: Sequence[WaitRequest], open_waits: Iterable[str],
    under_way: Iterable[UnderWay] = (), *, now: str, opened: str = "", folds: bool = True,
) -> Timeline:  # fmt: skip
    """Return the timeline of a page of invocations.

    Args:
        requests: the questions of the execution.
        open_waits: the names of those without an answer, which end with the rows.
        under_way: the attempts that run.
        now: the end of what is not over.
        opened: key of the group that is shown with all its rows.
        folds: whether idle time is folded.
    """
    maker = _Maker(started_at, seen.attempts, requests)
    rows = list(_grouped(maker, seen.page, opened))
    if seen.next is None:
        known = {record.id for record in seen.page}
        rows += maker.unrecorded(known, open_waits, under_way, now)
    return Timeline(started_at, rows, folds=folds)


class _Maker:
    def __init__(
        self, start: str, attempts: Iterable[AttemptRecord], requests: Iterable[WaitRequest]
    ) -> None:
        self._start = datetime.fromisoformat(start)
        self._attempts: dict[str, list[AttemptRecord]] = {}
        for one in attempts:
            self._attempts.setdefault(one.id, []).append(one)
        self._requests = {one.name: one for one in requests}

    def rows(self, record: InvocationRecord, depth: int = 0) -> Iterator[Row]:
        """Yield the row of an invocation, then those of its model calls."""
        failed = self._attempts.get(record.id, [])
        row = Row(record.id, _icon(record), record.id, _note(record, failed), depth,
                  site=record.site, began_at=record.started_at)  # fmt: skip
        row.bars = [self._bar("failed", one.started_at, one.ended_at) for one in failed]
        begin = record.started_at
        request = self._requests.get(record.id) if record.kind == "wait" else None
        if request is not None:
            begin = request.asked_at or begin
        elif failed:
            begin = max(begin, failed[-1].ended_at)
        if record.status != "failed" or not failed:
            row.bars.append(self._bar(_kind(record), begin, record.ended_at))
        row.seconds = max((bar.end for bar in row.bars), default=0.0) - row.bars[0].start
        row.tokens = sum(tokens_of(call) for call in record.calls)
        yield row
        if record.kind != "llm":
            for number, call in enumerate(record.calls, 1):
                yield self._call(record, number, call, depth + 1)

    def _call(self, record: InvocationRecord, number: int, call: dict[str, Any], depth: int) -> Row:
        seconds = float(call.get("latency_s") or 0.0)
        begin = self._seconds(call.get("started_at") or record.started_at)
        name = str(call.get("resolved") or call.get("model") or "model")
        asked = str(call.get("model", ""))
        row = Row(f"{record.id}/call-{number}", "llm", name, asked if asked != name else "", depth)
        row.bars = [Bar("llm", begin, begin + seconds)]
        row.tokens, row.seconds = tokens_of(call), seconds
        return row

    def unrecorded(
        self, known: set[str], open_waits: Iterable[str], under_way: Iterable[UnderWay], now: str
    ) -> Iterator[Row]:
        """Yield a row for each call without a record: one that runs, an open wait, and one whose
        attempts have all failed.
        """
        running = {one.id: one for one in under_way if one.id not in known}
        for name in open_waits:
            request = self._requests[name]
            bars = [self._bar("waits", request.asked_at, now)]
            icon = "sleeping" if request.kind == "timer" else "waiting"
            yield self._unrecorded(name, icon, request.question, bars,
                                   request.site, request.asked_at)  # fmt: skip
        for id in [*running, *(id for id in self._attempts if id not in {*known, *running})]:
            attempts = self._attempts.get(id, [])
            bars = [self._bar("failed", one.started_at, one.ended_at) for one in attempts]
            if id in running:
                one = running[id]
                bars.append(self._bar("runs", one.began_at, now))
                note = f"attempt {one.attempt}" if one.attempt > 1 else ""
                yield self._unrecorded(id, "running", note, bars, one.site, one.began_at)
                continue
            last = attempts[-1]
            count = f"{len(attempts)} attempts" if len(attempts) > 1 else ""
            notes = [count, last.error.type if last.error is not None else ""]
            note = ", ".join(filter(None, notes))
            yield self._unrecorded(id, "failed", note, bars, last.site, last.started_at)

    @staticmethod
    def _unrecorded(
        id: str, icon: str, note: str, bars: list[Bar], site: str, began_at: str
    ) -> Row:
        seconds = bars[-1].end - bars[0].start
        return Row(id, icon, id, note, bars=bars, seconds=seconds, site=site, began_at=began_at)

    def group(self, records: list[InvocationRecord]) -> Row:
        """Return one row for calls of the same name."""
        inside = [row for record in records for row in self.rows(record) if row.depth == 0]
        bars = [bar for row in inside for bar in row.bars]
        failed = sum(record.status == "failed" for record in records)
        again = sum(record.id in self._attempts for record in records)
        reused = sum(_kind(record) == "reused" for record in records)
        counts = ((reused, "reused"), (failed, "failed"), (again, "tried again"))
        note = " · ".join(f"{count} {word}" for count, word in counts if count)
        row = Row(records[0].id, "failed" if failed else "list", records[0].name)
        row.note = f"× {len(records)}" + (f" · {note}" if note else "")
        row.opens = records[0].id
        # The failed ones are drawn last, over the others.
        row.bars = sorted(bars[:_MOST_BARS], key=lambda bar: bar.kind == "failed")
        row.tokens = sum(one.tokens for one in inside)
        row.seconds = max(bar.end for bar in bars) - min(bar.start for bar in bars)
        return row

    def _bar(self, kind: BarKind, start: str, end: str) -> Bar:
        begin = self._seconds(start)
        # The clocks of two machines may differ.
        return Bar(kind, begin, max(begin, self._seconds(end or start)))

    def _seconds(self, moment: str) -> float:
        if not moment:
            return 0.0
        return max(0.0, (datetime.fromisoformat(moment) - self._start).total_seconds())


def _grouped(maker: _Maker, records: Iterable[InvocationRecord], opened: str) -> Iterator[Row]:
    shown = (record for record in records if record.kind != "log")
    for _, each in groupby(shown, key=lambda record: (record.name, record.kind)):
        same = list(each)
        if len(same) < _GROUP:
            for record in same:
                yield from maker.rows(record)
            continue
        group = maker.group(same)
        yield group
        if opened == group.opens:
            for record in same:
                yield from maker.rows(record, 1)


def _segments(bars: list[Bar], folds: bool) -> list[tuple[float, float, float, float, bool]]:
    """Return the parts of the axis: begin and end in seconds, x and width in percent, folded."""
    last = max((bar.end for bar in bars), default=0.0)
    active = _merged((bar.start, bar.end) for bar in bars if bar.kind != "waits")
    parts: list[tuple[float, float]] = []
    edge = 0.0
    for begin, end in [*active, (last, last)]:
        if begin > edge:
            parts.append((edge, begin))
        edge = max(edge, end)
    gaps = [end - begin for begin, end in parts]
    limit = max(_IDLE_SECONDS, 3 * median(gaps) if len(gaps) > 2 else 0.0)
    folded = [part for part in parts if folds and part[1] - part[0] > limit]
    spans: list[tuple[float, float, bool]] = []
    edge = 0.0
    for begin, end in folded:
        spans += [(edge, begin, False), (begin, end, True)]
        edge = end
    spans.append((edge, last, False))
    spans = [span for span in spans if span[1] > span[0]]
    shown = sum(end - begin for begin, end, is_fold in spans if not is_fold)
    if not shown:
        # Nothing has run yet.
        return [(0.0, max(last, 1e-6), 0.0, 100.0, False)]
    fold = min(_FOLD, 60.0 / max(1, len(folded)))
    space = 100.0 - fold * len(folded)
    found, x = [], 0.0
    for begin, end, is_fold in spans:
        width = fold if is_fold else space * (end - begin) / shown
        found.append((begin, end, x, width, is_fold))
        x += width
    return found


def _merged(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def _kind(record: InvocationRecord) -> BarKind:
    if record.kind == "wait":
        return "waits"
    if record.status != "completed":
        return "failed"
    if record.cached_from or record.adopted_from or record.given:
        return "reused"
    return "llm" if record.kind == "llm" else "ran"


def _icon(record: InvocationRecord) -> str:
    if record.status != "completed":
        return record.status
    icons = {"llm": "llm", "memory": "memory", "inbox": "inbox", "tool": "tool", "agent": "agent"}
    if record.cached_from or record.adopted_from:
        return "same"
    return icons.get(record.kind, "completed")


def _note(record: InvocationRecord, failed: Sequence[AttemptRecord]) -> str:
    if record.error is not None:
        return f"{record.error.type}: {record.error.message}"
    if failed:
        return f"{len(failed) + 1} attempts"
    source = record.cached_from or record.adopted_from
    return f"from {source.partition('/')[0]}" if source else ""
