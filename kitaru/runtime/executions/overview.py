"""Summarise an execution and select the invocations to show, for any number of invocations.

The invocations are read once, in any order, and not stored in memory. Only counts remain, and the
first, last and failed invocations in program order. A page starts after the last id of the previous
page.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nlargest, nsmallest
from typing import Any

from kitaru import hints
from kitaru.errors import NotFound
from kitaru.runtime.journal.effort import Effort, Spent, is_work, seconds
from kitaru.runtime.journal.journal import TAG, Journal
from kitaru.runtime.journal.to_json import as_json
from kitaru.wire.records import AttemptRecord, InvocationKind, InvocationRecord
from kitaru.wire.structs import Struct

# The number of invocations read before all but the first and last ones are dropped.
_BATCH = 4_096
_FAILED = 10

Place = tuple[int, str]


class Count(Struct):
    """Counts of the invocations with one name: all of them, failed ones and reused ones.

    `reused` results come from the cache or from the source of this replay. `seconds` is the total
    duration.
    """

    name: str
    kind: InvocationKind
    count: int
    failed: int
    reused: int
    seconds: float


class Overview(Struct):
    """Summary of an execution: counts, and some of its invocations and attempts.

    `page` are the invocations of the requested page. `next` is the id with which to request the
    next page, None on the last page. `last` are the last invocations and `failed` the first failed
    ones. Both are empty if the page contains all invocations. `attempts` are the first failed
    attempts.

    `effort` is the total. `own` leaves out results from the cache or from the source of a replay.
    `failed_attempts` is the part of `own` that failed attempts took. `unpriced` counts the model
    calls in `own` without a known price.
    """

    total: int
    counts: tuple[Count, ...]
    page: list[InvocationRecord]
    next: str | None
    last: list[InvocationRecord]
    failed: list[InvocationRecord]
    attempts: list[AttemptRecord]
    attempts_total: int
    effort: Effort
    own: Effort
    failed_attempts: Effort
    unpriced: int
    last_sign: str
    notes: dict[str, Any]


def overview(
    journal: Journal, *, limit: int | None = None, after: str = "", tail: int = 0
) -> Overview:
    """Count all invocations, and return a page of them in program order.

    Args:
        limit: maximum number of invocations, and of failed attempts; None for all.
        after: the id of the last invocation on the previous page.
        tail: number of last invocations to return as well.

    Raises:
        NotFound: the invocation `after` does not exist.
    """
    behind = _place(journal, after) if after else (-1, "")
    seen = _Seen(behind, limit, tail)
    for fields in journal.glances():
        seen.add(fields)
    attempts, last_attempt, count = _attempts(journal, limit, seen.spent)
    first = seen.first.smallest()
    has_more = limit is not None and len(first) > limit
    shown = [id for _, id in (first[:limit] if has_more else first)]
    page = journal.outcomes(shown)
    others = {id for _, id in seen.last.largest()} - {*shown} if has_more else set()
    failed = (
        {id for _, id in seen.failed.smallest()} - {*shown} - others
        if has_more and limit
        else set()
    )
    return Overview(
        total=seen.total,
        counts=tuple(seen.counts()),
        page=page,
        next=shown[-1] if has_more and shown else None,
        last=journal.outcomes(others),
        failed=journal.outcomes(failed),
        attempts=attempts,
        attempts_total=count,
        effort=seen.spent.total,
        own=seen.spent.own,
        failed_attempts=seen.spent.failed,
        unpriced=seen.spent.unpriced,
        last_sign=max(seen.last_sign, last_attempt),
        notes=seen.notes(),
    )


def _place(journal: Journal, id: str) -> Place:
    record = journal.invocation(id)
    if record is None:
        raise NotFound(
            f'The execution {journal.exec_id} has no invocation "{id}".',
            help="Ask for the first page: "
            + hints.command(journal.store, "executions", "get", journal.exec_id),
        )
    return record.position, record.id


class _Few:
    """The first or the last of many positions, with few of them in memory."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._places: list[Place] = []

    def smallest(self) -> list[Place]:
        return sorted(self._places) if self._most is None else nsmallest(self._most, self._places)

    def largest(self) -> list[Place]:
        return nlargest(self._most or 0, self._places)

    def add(self, place: Place, *, last: bool = False) -> None:
        self._places.append(place)
        if self._most is not None and len(self._places) > self._most + _BATCH:
            self._places = self.largest() if last else self.smallest()


class _Seen:
    def __init__(self, behind: Place, limit: int | None, tail: int) -> None:
        self._behind = behind
        self.first = _Few(None if limit is None else limit + 1)
        self.last = _Few(tail)
        self.failed = _Few(_FAILED)
        self.total = 0
        self.spent = Spent()
        self.last_sign = ""
        self._counts: dict[tuple[str, InvocationKind], list[float]] = {}
        self._notes: dict[str, tuple[Place, Any]] = {}

    def add(self, fields: dict[str, Any]) -> None:
        place = fields["position"], fields["id"]
        self.total += 1
        self.last_sign = max(self.last_sign, fields["ended_at"])
        if place > self._behind:
            self.first.add(place)
        if fields["callee"] == TAG:
            return
        if fields["kind"] == "log":
            for key, value in fields["metadata"].items():
                if key not in self._notes or self._notes[key][0] < place:
                    self._notes[key] = place, value
            return
        self.last.add(place, last=True)
        took = 0.0
        if is_work(fields["kind"], fields["status"]):
            took = seconds(fields["started_at"], fields["ended_at"])
            self.spent.add(fields)
        failed = fields["status"] == "failed"
        if failed:
            self.failed.add(place)
        counts = self._counts.setdefault((fields["name"], fields["kind"]), [0, 0, 0, 0.0])
        counts[0] += 1
        counts[1] += failed
        counts[2] += bool(fields["cached_from"] or fields["adopted_from"])
        counts[3] += took

    def counts(self) -> Iterable[Count]:
        """Yield the counts for each name, the most frequent first."""
        order = sorted(self._counts.items(), key=lambda item: -item[1][0])
        for (name, kind), (count, failed, reused, took) in order:
            yield Count(name, kind, int(count), int(failed), int(reused), round(took, 6))

    def notes(self) -> dict[str, Any]:
        """Return the last note of `kitaru.log` for each key."""
        order = sorted(self._notes.items(), key=lambda item: item[1][0])
        return {key: as_json(value) for key, (_, value) in order}


def _attempts(
    journal: Journal, limit: int | None, spent: Spent
) -> tuple[list[AttemptRecord], str, int]:
    """Return the first failed attempts, the end of the last one, and the number of all."""
    kept: list[AttemptRecord] = []
    last, count = "", 0

    def first() -> list[AttemptRecord]:
        return sorted(kept, key=lambda attempt: attempt.started_at)[:limit]

    for attempt in journal.each_attempt():
        count += 1
        spent.add_attempt(attempt)
        last = max(last, attempt.ended_at)
        kept.append(attempt)
        if limit is not None and len(kept) > limit + _BATCH:
            kept = first()
    return first(), last, count
