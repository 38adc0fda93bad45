"""Decides which invocation made a value from which: by content, so that every process agrees.

A record keeps a digest of each argument, and of what stands in its lists, tuples and dicts. Whoever
asks matches them with the results of earlier invocations: nothing is tracked while a flow runs, and
it does not matter in which process, or after which cut, a value was handed on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kitaru.errors import ValueNotEncodable
from kitaru.runtime import codec
from kitaru.wire import canonical
from kitaru.wire.records import InvocationRecord

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
                found[_short(canonical.digest(codec.encode(part)))] = None
            except ValueNotEncodable:
                continue
    return tuple(found)


def parents(records: Iterable[InvocationRecord]) -> dict[str, tuple[str, ...]]:
    """Return, by id, the invocations whose results each one was given, whole or inside another.

    Of several with the same result it is the last one before the call. `records` are those of one
    execution, in program order.
    """
    made: dict[str, str] = {}
    found: dict[str, tuple[str, ...]] = {}
    for record in records:
        givers = (made[digest] for digest in record.uses if digest in made)
        found[record.id] = tuple(dict.fromkeys(givers))
        if record.value is not None:
            made[_short(record.value.digest)] = record.id
    return found


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
