"""Compare two executions: inputs, invocations, results and effort."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from sys import intern
from typing import Any, Literal

from kitaru.runtime.executions.model_calls import calls_of, shown
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.json_diff import Difference, differences
from kitaru.runtime.journal.to_json import as_json, result_as_json
from kitaru.wire.records import AttemptRecord, InvocationRecord
from kitaru.wire.structs import Struct, field

Change = Literal["same", "changed", "only a", "only b"]

_WORK = ("checkpoint", "llm")


class Effort(Struct):
    """Effort: model tokens, their known price in US dollars, and seconds."""

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
    """One of the two compared executions.

    `total` is the effort of all its invocations. `own` is the effort of those that it ran itself,
    without results from the cache or from the source of a replay.
    """

    exec_id: str
    flow: str
    status: str
    inputs: Any
    result: Any
    total: Effort
    own: Effort


class Row(Struct):
    """One invocation in both executions. `a` and `b` are its outcomes, None if it is missing.

    `inputs` and `result` are true if its arguments and its outcome are equal. `differences` are the
    differences in recorded values: in its result, and in the models and texts of its model calls.
    Records contain only digests of other arguments.
    """

    id: str
    change: Change
    inputs: bool
    result: bool
    a: dict[str, Any] | None
    b: dict[str, Any] | None
    differences: tuple[Difference, ...] = ()


class Comparison(Struct):
    """Two executions side by side; `same` is true if inputs, invocations and results are equal.

    `differences` are the differences of the flow's inputs and its result. `counts` contains the
    number of invocations for each kind of change. `rows` are all invocations, or the first that
    differ if there are more than requested. `next` is the number of rows to skip for the next page.
    """

    a: Side
    b: Side
    rows: tuple[Row, ...]
    same: bool
    differences: tuple[Difference, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    next: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON."""
        return asdict(self)


class _Brief(Struct):
    """The fields that decide whether an invocation is the same in another execution."""

    arguments: tuple[str, str]
    result: tuple[Any, ...]
    injected: bool


def compare(a: Journal, b: Journal, *, limit: int | None = None, skip: int = 0) -> Comparison:
    """Compare execution `b` with execution `a`. Notes of `kitaru.log` do not count.

    `limit` and `skip` select the rows to return; see `Comparison`.
    """
    (left, left_took), (right, right_took) = _read(a), _read(b)
    changes = {id: _change(left.get(id), right.get(id)) for id in _merged(left, right)}
    counts = Counter[str](changes.values())
    same = (
        a.execution.inputs_digest == b.execution.inputs_digest
        and _outcome(a) == _outcome(b)
        and counts["same"] == len(changes)
    )
    ids = list(changes)
    if limit is not None and len(ids) > limit:
        ids = [id for id, change in changes.items() if change != "same"]
    chosen = ids[skip:] if limit is None else ids[skip : skip + limit]
    records = [{one.id: one for one in each.outcomes(chosen)} for each in (a, b)]
    rows = tuple(_row(a, b, records[0].get(id), records[1].get(id), id) for id in chosen)
    sides = _side(a, left_took), _side(b, right_took)
    found = differences("input", sides[0].inputs, sides[1].inputs)
    if all(each.status == "completed" for each in sides):
        found += differences("result", sides[0].result, sides[1].result)
    behind = skip + len(chosen)
    more = behind if behind < len(ids) else None
    return Comparison(*sides, rows, same, tuple(found), dict(counts), more)


class _Took:
    """The effort of an execution's invocations: in total, and of those that it ran itself."""

    def __init__(self) -> None:
        self._calls, self._own_calls = Effort(), Effort()
        self._seconds = self._own_seconds = 0.0

    def add(self, fields: Mapping[str, Any]) -> None:
        """Add the effort of an invocation, from its glance."""
        if not is_work(fields["kind"], fields["status"]):
            return
        is_own = not (fields["given"] or fields["adopted_from"] or fields["cached_from"])
        lasted = seconds(fields["started_at"], fields["ended_at"])
        self._seconds += lasted
        self._own_seconds += lasted * is_own
        if fields["calls"]:
            called = effort_of_calls(fields["calls"])
            self._calls += called
            self._own_calls += called if is_own else Effort()

    @property
    def total(self) -> Effort:
        """The effort of all invocations."""
        return self._calls + Effort(seconds=self._seconds)

    @property
    def own(self) -> Effort:
        """The effort of the invocations that the execution ran itself."""
        return self._own_calls + Effort(seconds=self._own_seconds)


def _side(journal: Journal, took: _Took) -> Side:
    """Describe an execution and its effort."""
    execution = journal.execution
    failed = _sum(effort_of(attempt) for attempt in journal.each_attempt())
    return Side(
        exec_id=execution.exec_id,
        flow=execution.flow,
        status=journal.state().status,
        inputs=as_json(journal.fetch(execution.inputs)),
        result=result_as_json(journal),
        total=took.total + failed,
        own=took.own + failed,
    )


def effort_of(of: InvocationRecord | AttemptRecord) -> Effort:
    """Return the effort of one invocation or one failed attempt; a wait has none."""
    if not is_work(of.kind, of.status if isinstance(of, InvocationRecord) else ""):
        return Effort()
    return effort_of_calls(of.calls) + Effort(seconds=seconds(of.started_at, of.ended_at))


def is_work(kind: str, status: str) -> bool:
    """Return whether effort counts for this kind and status; `status` is empty for an attempt."""
    # The attempts of a sealed failure are counted one by one.
    return kind in _WORK and status != "failed"


def effort_of_calls(calls: Iterable[dict[str, Any]]) -> Effort:
    """Return the recorded tokens and prices of model calls."""
    return _sum(Effort(_tokens(call), call.get("cost")) for call in calls)


def _read(journal: Journal) -> tuple[dict[str, _Brief], _Took]:
    """Return the compared fields of each invocation except notes, in program order, and the effort.

    The records of a large execution are read only once.
    """
    took, found = _Took(), []
    for fields in journal.glances():
        took.add(fields)
        if fields["kind"] != "log":
            found.append((fields["position"], fields["id"], _brief(fields)))
    return {id: brief for _, id, brief in sorted(found, key=lambda one: one[:2])}, took


def _brief(fields: Mapping[str, Any]) -> _Brief:
    stored = fields["value"]
    digest = stored["$stored"]["digest"] if stored is not None else ""
    result = fields["status"], digest, fields["failure"]
    arguments = intern(fields["callee"]), fields["arguments_digest"]
    return _Brief(arguments, result, fields["given"])


def _change(a: _Brief | None, b: _Brief | None) -> Change:
    if a is None or b is None:
        return "only b" if a is None else "only a"
    is_same = a.result == b.result and (a.arguments == b.arguments or a.injected or b.injected)
    return "same" if is_same else "changed"


def _merged(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Merge the ids of both executions in the order of `a`; ids only in `b` keep their place."""
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


def _row(
    left: Journal, right: Journal, a: InvocationRecord | None, b: InvocationRecord | None, id: str
) -> Row:
    if a is None or b is None:
        return Row(id, "only b" if a is None else "only a", False, False, _shown(a), _shown(b))
    inputs = a.callee == b.callee and a.arguments_digest == b.arguments_digest
    result = _came_out(a) == _came_out(b)
    if result and (inputs or a.given or b.given):
        return Row(id, "same", inputs, result, _shown(a), _shown(b))
    found = list(_in_calls(left, a, right, b))
    # A checkpoint that returns its model's response would show the difference twice.
    told = [(one.path, one.old, one.new) for one in found]
    results = _in_results(left, a, right, b)
    found += [one for one in results if (one.path, one.old, one.new) not in told]
    return Row(id, "changed", inputs, result, _shown(a), _shown(b), tuple(found))


def _in_results(
    left: Journal, a: InvocationRecord, right: Journal, b: InvocationRecord
) -> list[Difference]:
    if a.value is None or b.value is None or a.value.digest == b.value.digest:
        return []
    old, new = as_json(left.fetch(a.value)), as_json(right.fetch(b.value))
    return differences("result", old, new)


def _in_calls(
    left: Journal, a: InvocationRecord, right: Journal, b: InvocationRecord
) -> Iterator[Difference]:
    made = [list(calls_of([record])) for record in (a, b)]
    for number, (one, other) in enumerate(zip(*made, strict=False), 1):
        where = "" if len(made[0]) == len(made[1]) == 1 else f"call {number}: "
        old, new = shown(left, one), shown(right, other)
        for name in ("model", "prompt", "response"):
            if name in old and name in new:
                yield from differences(where + name, old[name], new[name])


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
        **asdict(effort_of(record)),
    }


def _how(record: InvocationRecord) -> str:
    if record.given:
        return "injected"
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


def seconds(start: str, end: str) -> float:
    """Return the seconds between two timestamps of records."""
    moments = [datetime.fromisoformat(moment) for moment in (start, end)]
    return (moments[1] - moments[0]).total_seconds()


def _tokens(call: dict[str, Any]) -> int:
    return sum(count or 0 for count in call.get("tokens", {}).values())
