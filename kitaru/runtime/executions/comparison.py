"""Compare two executions: inputs, invocations, results and effort."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from sys import intern
from typing import Any, Literal

from kitaru.runtime.executions.artifacts import result_as_json
from kitaru.runtime.executions.model_calls import calls_of, shown
from kitaru.runtime.journal.effort import Effort, Spent, effort_of
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.json_diff import Difference, differences
from kitaru.runtime.journal.to_json import as_json
from kitaru.wire.records import InvocationRecord
from kitaru.wire.structs import Struct, field

Change = Literal["same", "changed", "only a", "only b"]

_HASH_BYTES = 12


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


def _side(journal: Journal, took: Spent) -> Side:
    """Describe an execution and its effort."""
    execution = journal.execution
    for attempt in journal.each_attempt():
        took.add_attempt(attempt)
    return Side(
        exec_id=execution.exec_id,
        flow=execution.flow,
        status=journal.state().status,
        inputs=as_json(journal.fetch(execution.inputs)),
        result=result_as_json(journal),
        total=took.total,
        own=took.own,
    )


def _read(journal: Journal) -> tuple[dict[str, bytes], Spent]:
    """Return the compared fields of each invocation except notes, in program order, and the effort.

    The records of a large execution are read only once.
    """
    took = Spent()
    found: dict[str, bytes] = {}
    places: dict[str, int] = {}
    for fields in journal.glances():
        took.add(fields)
        if fields["kind"] != "log":
            # Both executions mostly have the same ids.
            id = intern(fields["id"])
            places[id], found[id] = fields["position"], _brief(fields)
    return {id: found[id] for id in sorted(found, key=lambda id: (places[id], id))}, took


def _brief(fields: Mapping[str, Any]) -> bytes:
    """Return what decides whether an invocation is the same in another execution.

    That is a digest of its arguments, a digest of its result, and whether the result was injected.
    Two executions of 100,000 invocations are in memory at once, so this is short.
    """
    stored = fields["value"]
    digest = stored["$stored"]["digest"] if stored is not None else ""
    arguments = fields["callee"], fields["arguments_digest"]
    result = fields["status"], digest, fields["failure"]
    return b"".join([_hash(arguments), _hash(result), b"1" if fields["given"] else b""])


def _hash(fields: tuple[Any, ...]) -> bytes:
    return hashlib.blake2b(repr(fields).encode(), digest_size=_HASH_BYTES).digest()


def _change(a: bytes | None, b: bytes | None) -> Change:
    if a is None or b is None:
        return "only b" if a is None else "only a"
    arguments, result = slice(_HASH_BYTES), slice(_HASH_BYTES, 2 * _HASH_BYTES)
    is_injected = max(len(a), len(b)) > 2 * _HASH_BYTES
    is_same = a[result] == b[result] and (a[arguments] == b[arguments] or is_injected)
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
