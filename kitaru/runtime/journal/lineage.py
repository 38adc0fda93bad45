"""Lineage of values, matched by content, so that every process computes the same.

A record contains a digest of each argument, and of the items in its lists, tuples and dicts. A
query matches these digests with the results of earlier invocations. Nothing is tracked while a flow
runs. It does not matter which process passed a value on, or after which cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from sys import intern
from typing import Any

from kitaru.errors import ValueNotEncodable
from kitaru.runtime import codec
from kitaru.runtime.codec.subvalues import field_of, values_inside
from kitaru.wire import canonical
from kitaru.wire.records import StoredValue
from kitaru.wire.structs import Struct

# 64 bits distinguish the values of one execution and keep records small.
_DIGITS = 16
_PARTS = 128
_DEPTH = 3
_MEMORY_READS = ("kitaru.memory.get", "kitaru.memory.entry")
_SIZED = (str, list, dict, tuple)


def argument_digests(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, ...]:
    """Return short digests of arguments and of their parts, three levels deep, at most 128.

    None, booleans, empty containers and values that cannot be recorded are left out.
    """
    found: dict[str, None] = {}
    for part in _parts([*args, *kwargs.values()]):
        if len(found) >= _PARTS:
            break
        if not _is_mute(part):
            try:
                found[_short(canonical.digest(codec.encode(part, parts=True)))] = None
            except ValueNotEncodable:
                continue
    return tuple(found)


# The id and the line of an invocation that made a result.
Maker = tuple[str, str]


class Trace(Struct):
    """The data of an invocation that lineage needs; all of it is small.

    `uses` are the digests of its arguments and their parts. `whole` are the digests of its result,
    `held` those of the parts of its result. As numbers they take half the memory. `line` identifies
    the line of the flow that made the call.
    """

    position: int
    id: str
    line: str
    uses: tuple[int, ...]
    whole: tuple[int, ...]
    held: tuple[int, ...]


def trace(fields: Mapping[str, Any]) -> Trace:
    """Return the trace of an invocation from the fields of its record, as JSON."""
    whole, held = [], []
    stored = fields["value"]
    if stored is not None:
        value = StoredValue(**stored["$stored"])
        whole.append(_short(value.digest))
        held += _held_by(value)
        if (read := _read_from_memory(fields, value)) is not None and not _is_mute(read):
            whole.append(_short(canonical.digest(read)))
            held += _parts_of(read)
    line = intern(f"{fields['callee']} {fields['site']}")
    each = (tuple(int(digest, 16) for digest in some) for some in (fields["uses"], whole, held))
    return Trace(fields["position"], fields["id"], line, *each)


def parents_by_content(traces: Iterable[Trace]) -> dict[str, tuple[str, ...]]:
    """Return, by id, the invocations whose results each invocation used, whole or in part.

    If several invocations have the same result, the last one before the call from another line
    counts, so that the calls of a fan-out are not parents of each other. Otherwise the last one
    counts. A part counts only if no result that was passed
    whole contains it:

        letter(city, weather, found[0])  # from forecast, and from offers, whose first part it got

    `traces` are those of one execution, in any order.
    """
    whole: dict[int, tuple[Maker, ...]] = {}
    held: dict[int, tuple[Maker, ...]] = {}
    found: dict[str, tuple[str, ...]] = {}
    pending = sorted(traces, key=lambda trace: (trace.position, trace.id), reverse=True)
    # Each trace is released when it was used.
    while pending:
        record = pending.pop()
        givers = _latest(whole, record, record.uses)
        others = {id for id, line in givers if line != record.line}
        parts = [
            digest
            for digest in record.uses
            if not any(id in others for id, _ in (*whole.get(digest, ()), *held.get(digest, ())))
        ]
        givers += _latest(held, record, parts)
        found[record.id] = tuple(dict.fromkeys(id for id, _ in givers))
        maker = record.id, record.line
        _note(whole, record.whole, maker)
        _note(held, record.held, maker)
    return found


def _latest(
    made: Mapping[int, tuple[Maker, ...]], taker: Trace, digests: Iterable[int]
) -> list[Maker]:
    found: list[Maker] = []
    for digest in digests:
        makers = made.get(digest, ())
        others = [one for one in makers if one[1] != taker.line]
        found += (others or makers)[-1:]
    return found


def _note(made: dict[int, tuple[Maker, ...]], digests: Iterable[int], maker: Maker) -> None:
    for digest in digests:
        # No lookup needs more than the last maker and the last maker on another line.
        others = [one for one in made.get(digest, ()) if one[1] != maker[1]]
        made[digest] = (*others[-1:], maker)


def _read_from_memory(fields: Mapping[str, Any], value: StoredValue) -> Any:
    """Return the document of the value found by a memory read; it is recorded with its version."""
    is_read = fields["kind"] == "memory" and fields["callee"] in _MEMORY_READS
    return field_of(value.data, "value") if is_read and value.blob is None else None


def _held_by(value: StoredValue) -> list[str]:
    return _parts_of(value.data) if value.blob is None else []


def _parts_of(document: Any) -> list[str]:
    """Return the digests of the parts of a value, from its document. Numbers do not count."""
    inside = values_inside(document, _DEPTH)
    return [
        _short(canonical.digest(part))
        for part in islice(inside, _PARTS)
        if not _is_mute(part) and type(part) not in (int, float)
    ]


def _parts(level: list[Any]) -> Iterator[Any]:
    for _ in range(1 + _DEPTH):
        yield from level
        level = [part for value in level for part in _inside(value)][:_PARTS]


def _inside(value: Any) -> Iterable[Any]:
    if type(value) is dict:
        return value.values()
    return value if type(value) in (list, tuple) else ()


def _is_mute(value: Any) -> bool:
    # Many results are one of these values, so equality does not show that a value was passed on.
    kind = type(value)
    return value is None or kind is bool or (kind in _SIZED and not value)


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:_DIGITS]
