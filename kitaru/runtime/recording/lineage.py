"""Decides which invocation made a value from which: by content, so that every process agrees.

A record keeps a digest of each argument, and of what stands in its lists, tuples and dicts. Whoever
asks matches them with the results of earlier invocations: nothing is tracked while a flow runs, and
it does not matter in which process, or after which cut, a value was handed on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from kitaru.errors import ValueNotEncodable
from kitaru.runtime import codec
from kitaru.runtime.codec.inside import values_inside
from kitaru.wire import canonical
from kitaru.wire.records import InvocationRecord, StoredValue

# 64 bits tell the values of one execution apart, and keep records small.
_DIGITS = 16
_PARTS = 128
_DEPTH = 3
_SIZED = (str, list, dict, tuple)


def uses(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, ...]:
    """Return short digests of arguments and of their parts, three levels down, at most 128.

    None, truth values and empty containers are left out, and so is what cannot be recorded.
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


def parents(records: Iterable[InvocationRecord]) -> dict[str, tuple[str, ...]]:
    """Return, by id, the invocations whose results each one was given, whole or in part.

    Of several with the same result it is the last one before the call that another line made, so
    that the calls of a fan-out are not each other's, else the last. Parts count where nothing of
    another line was given whole. `records` are those of one execution, in program order.
    """
    whole: dict[str, list[InvocationRecord]] = {}
    held: dict[str, list[InvocationRecord]] = {}
    found: dict[str, tuple[str, ...]] = {}
    for record in records:
        givers = _latest(whole, record)
        if all(_line(giver) == _line(record) for giver in givers):
            givers += _latest(held, record)
        found[record.id] = tuple(dict.fromkeys(giver.id for giver in givers))
        if record.value is not None:
            _note(whole, [_short(record.value.digest)], record)
            _note(held, _held_by(record.value), record)
    return found


def _latest(
    made: Mapping[str, list[InvocationRecord]], taker: InvocationRecord
) -> list[InvocationRecord]:
    found = []
    for digest in taker.uses:
        makers = made.get(digest, [])
        others = [one for one in makers if _line(one) != _line(taker)]
        found += (others or makers)[-1:]
    return found


def _note(
    made: dict[str, list[InvocationRecord]], digests: Iterable[str], maker: InvocationRecord
) -> None:
    for digest in digests:
        # The last one, and the last that another line made, are all that is ever asked for.
        others = [one for one in made.get(digest, ()) if _line(one) != _line(maker)]
        made[digest] = [*others[-1:], maker]


def _line(record: InvocationRecord) -> tuple[str, str]:
    return record.callee, record.site


def _held_by(value: StoredValue) -> list[str]:
    """Return the digests of a result's parts, where it lies in its record; numbers say nothing."""
    inside = values_inside(value.data, _DEPTH) if value.blob is None else ()
    return [
        _short(canonical.digest(part))
        for part in islice(inside, _PARTS)
        if not _is_mute(part) and type(part) not in (int, float)
    ]


def related(made: Mapping[str, tuple[str, ...]], id: str) -> dict[str, tuple[str, ...]]:
    """Return of `parents` what `id` was made from and what was made from it, itself included."""
    kept = {id}
    for one in reversed(list(made)):
        if one in kept:
            kept.update(made[one])
    after = {id}
    for one, givers in made.items():
        if after & set(givers):
            after.add(one)
    return {one: givers for one, givers in made.items() if one in kept | after}


def _parts(level: list[Any]) -> Iterator[Any]:
    for _ in range(1 + _DEPTH):
        yield from level
        level = [part for value in level for part in _inside(value)][:_PARTS]


def _inside(value: Any) -> Iterable[Any]:
    if type(value) is dict:
        return value.values()
    return value if type(value) in (list, tuple) else ()


def _is_mute(value: Any) -> bool:
    # So many results are one of these that equality says nothing.
    kind = type(value)
    return value is None or kind is bool or (kind in _SIZED and not value)


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:_DIGITS]
