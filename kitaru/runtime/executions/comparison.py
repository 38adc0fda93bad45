"""Decides how two executions compare: what went in, what ran, what came out, what it took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from itertools import chain
from typing import Any, Literal

from kitaru.runtime.recording.journal import Journal
from kitaru.runtime.recording.shown import as_json, result_as_json
from kitaru.wire.records import AttemptRecord, InvocationRecord
from kitaru.wire.structs import Struct

Change = Literal["same", "changed", "only a", "only b"]

_WORK = ("checkpoint", "llm")


class Effort(Struct):
    """What something took: model tokens, their price in US dollars where one is known, seconds."""

    tokens: int = 0
    cost: float | None = None
    seconds: float = 0.0

    def __add__(self, other: Effort) -> Effort:
        known = [cost for cost in (self.cost, other.cost) if cost is not None]
        return Effort(
            self.tokens + other.tokens,
            sum(known) if known else None,
            round(self.seconds + other.seconds, 6),
        )


class Side(Struct):
    """One of the executions compared.

    `total` is what everything that it holds took, `own` what it ran itself: neither the cache nor
    the execution that it replays did that for it.
    """

    exec_id: str
    flow: str
    status: str
    inputs: Any
    result: Any
    total: Effort
    own: Effort


class Row(Struct):
    """One invocation in both executions; `a` and `b` say how it came out, None where it is not.

    `inputs` and `result` say whether its arguments and its outcome are the same.
    """

    id: str
    change: Change
    inputs: bool
    result: bool
    a: dict[str, Any] | None
    b: dict[str, Any] | None


class Comparison(Struct):
    """Two executions side by side; `same` when inputs, invocations and results are."""

    a: Side
    b: Side
    rows: tuple[Row, ...]
    same: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON."""
        return asdict(self)


def compare(a: Journal, b: Journal) -> Comparison:
    """Return how execution `b` differs from execution `a`; notes of `kitaru.log` do not count."""
    left, right = _work(a), _work(b)
    rows = tuple(_row(id, left.get(id), right.get(id)) for id in _merged(left, right))
    same = (
        a.execution.inputs_digest == b.execution.inputs_digest
        and _outcome(a) == _outcome(b)
        and all(row.change == "same" for row in rows)
    )
    return Comparison(side(a), side(b), rows, same)


def side(journal: Journal) -> Side:
    """Return what an execution is and what it took."""
    execution, records = journal.execution, journal.invocations()
    failed = _sum(effort(attempt) for attempt in journal.attempts())
    own = [record for record in records if _how(record) == "ran"]
    return Side(
        exec_id=execution.exec_id,
        flow=execution.flow,
        status=journal.state().status,
        inputs=as_json(journal.fetch(execution.inputs)),
        result=result_as_json(journal),
        total=_sum(map(effort, records)) + failed,
        own=_sum(map(effort, own)) + failed,
    )


def effort(of: InvocationRecord | AttemptRecord) -> Effort:
    """Return what one invocation, or one failed attempt of one, took; a wait takes nothing."""
    if of.kind not in _WORK or (isinstance(of, InvocationRecord) and of.status == "failed"):
        # A sealed failure's attempts are counted one by one.
        return Effort()
    # Where nothing may be kept of a call, nothing is known of what it took.
    calls = _sum(Effort(_tokens(call), call.get("cost")) for call in of.calls)
    return calls + Effort(seconds=_seconds(of.started_at, of.ended_at))


def effort_of(records: Iterable[InvocationRecord], attempts: Iterable[AttemptRecord]) -> Effort:
    """Return what the invocations and the failed attempts of one execution took together."""
    return _sum(effort(one) for one in chain[InvocationRecord | AttemptRecord](records, attempts))


def _work(journal: Journal) -> dict[str, InvocationRecord]:
    return {record.id: record for record in journal.invocations() if record.kind != "log"}


def _merged(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Return the ids of both as `a` orders them, those of `b` alone where they stand in `b`."""
    rest, alone = iter(a), list[str]()
    merged: dict[str, None] = {}
    for id in b:
        if id not in a:
            alone.append(id)
        elif id not in merged:
            before = list(iter(rest.__next__, id))
            merged.update(dict.fromkeys([*before, *alone, id]))
            alone.clear()
    return [*merged, *rest, *alone]


def _row(id: str, a: InvocationRecord | None, b: InvocationRecord | None) -> Row:
    if a is None or b is None:
        return Row(id, "only b" if a is None else "only a", False, False, _shown(a), _shown(b))
    inputs = a.callee == b.callee and a.arguments_digest == b.arguments_digest
    result = _came_out(a) == _came_out(b)
    same = result and (inputs or a.given or b.given)
    return Row(id, "same" if same else "changed", inputs, result, _shown(a), _shown(b))


def _shown(record: InvocationRecord | None) -> dict[str, Any] | None:
    if record is None:
        return None
    value = record.value
    inline = value is not None and value.blob is None and not value.outside
    return {
        "status": record.status,
        "how": _how(record),
        "value": as_json(value.data) if inline and value is not None else None,
        "size": value.size if value is not None else 0,
        "error": record.error.message if record.error else None,
        **asdict(effort(record)),
    }


def _how(record: InvocationRecord) -> str:
    if record.given:
        return "given"
    if record.adopted_from:
        return "adopted"
    return "cached" if record.cached_from else "ran"


def _came_out(record: InvocationRecord) -> tuple[Any, ...]:
    digest = record.value.digest if record.value is not None else ""
    return record.status, digest, record.failure


def _outcome(journal: Journal) -> tuple[str, str]:
    end = journal.end()
    result = end.result if end is not None else None
    return journal.state().status, result.digest if result is not None else ""


def _sum(efforts: Iterable[Effort]) -> Effort:
    return sum(efforts, Effort())


def _seconds(start: str, end: str) -> float:
    moments = [datetime.fromisoformat(moment) for moment in (start, end)]
    return (moments[1] - moments[0]).total_seconds()


def _tokens(call: dict[str, Any]) -> int:
    return sum(count or 0 for count in call.get("tokens", {}).values())
