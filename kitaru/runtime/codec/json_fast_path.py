"""A fast path for values that are already plain JSON: copy them directly."""

from __future__ import annotations

import json
from collections.abc import Container
from math import isfinite
from typing import Any

from kitaru.wire.chunked_bytes import MARK, reference
from kitaru.wire.limits import PART_BYTES

# Parsers recurse into nested JSON. Deeper values use the flat form of the graph.
MAX_DEPTH = 32
# Python refuses to parse integers of more than 4300 digits.
MAX_INT_BITS = 4096
_write = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=reference).encode


class NotPlain(Exception):
    """The value is not a tree of exact JSON types."""


def is_text(value: str) -> bool:
    """Return whether JSON preserves the string `value`: readers join or reject lone surrogates."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_atom(value: Any) -> bool:
    """Return whether `value` is exactly a null, boolean, number or short, JSON-safe string."""
    kind = type(value)
    if kind is str:
        return len(value) < PART_BYTES and is_text(value)
    if kind is int:
        return bool(value.bit_length() <= MAX_INT_BITS)
    if kind is float:
        return isfinite(value)
    return value is None or kind is bool


def _is_easy(value: Any) -> bool:
    return type(value) is str and value.isascii() and len(value) < PART_BYTES


class Copier:
    """Copies one tree; afterwards, `ordered` is true if all its keys were sorted."""

    __slots__ = ("_placed", "_seen", "ordered")

    def __init__(self, placed: Container[int] = ()) -> None:
        self._seen: set[int] = set()
        self._placed = placed
        self.ordered = True

    def copy(self, value: Any, depth: int = 0) -> Any:
        """Return a copy of `value`; raise NotPlain unless it is a tree of JSON values."""
        kind = type(value)
        if kind is list:
            self._enter(value, depth)
            return [item if _is_easy(item) else self.copy(item, depth + 1) for item in value]
        if kind is dict:
            self._enter(value, depth)
            self._check_keys(list(value))
            if MARK in value:
                raise NotPlain
            return {
                key: item if _is_easy(item) else self.copy(item, depth + 1)
                for key, item in value.items()
            }
        if is_atom(value):
            return value
        raise NotPlain

    def _enter(self, value: Any, depth: int) -> None:
        identity = id(value)
        if depth > MAX_DEPTH or identity in self._seen or identity in self._placed:
            raise NotPlain
        self._seen.add(identity)

    def _check_keys(self, keys: list[Any]) -> None:
        for key in keys:
            if type(key) is not str or not is_text(key):
                raise NotPlain
        if self.ordered and keys != sorted(keys):
            self.ordered = False


def to_text(value: Any) -> str:
    """Return compact JSON that preserves the order of keys."""
    return _write(value)


def json_text(value: Any) -> str | None:
    """Return `value` as JSON with tuples as lists; None if that is impossible."""
    try:
        return to_text(value)
    except (TypeError, ValueError, RecursionError):
        return None


def fresh(document: Any) -> Any:
    """Return a copy of a plain document that shares no container with it."""
    kind = type(document)
    if kind is list:
        return [item if type(item) is str else fresh(item) for item in document]
    if kind is dict:
        return {key: item if type(item) is str else fresh(item) for key, item in document.items()}
    return document
