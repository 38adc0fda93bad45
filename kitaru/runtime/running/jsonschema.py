"""Decides whether JSON data fits a JSON schema, for the keywords that schemas of types use."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from typing import Any

_Check = Callable[[Any, Any, "_Schema"], Iterator[str]]


class _Schema:
    """A schema with the document that its references point into."""

    def __init__(self, node: Any, root: Any) -> None:
        self.node = node
        self.root = root

    def at(self, node: Any) -> _Schema:
        return _Schema(node, self.root)


def problem(value: Any, schema: Any) -> str | None:
    """Return the first reason why `value` does not fit `schema`, or None.

    Keywords that are not known here are not checked.
    """
    return next(_problems(value, _Schema(schema, schema), ""), None)


def _problems(value: Any, schema: _Schema, path: str) -> Iterator[str]:
    if schema.node is False:
        yield f"{path or 'it'} is not allowed"
    if not isinstance(schema.node, dict):
        return
    for keyword, check in _CHECKS.items():
        if keyword in schema.node:
            for reason in check(value, schema.node[keyword], schema):
                yield at(path, reason)
    yield from _inside(value, schema, path)


def _inside(value: Any, schema: _Schema, path: str) -> Iterator[str]:
    node = schema.node
    if isinstance(value, dict):
        known = node.get("properties", {})
        for key, item in value.items():
            sub = known.get(key, node.get("additionalProperties", True))
            yield from _problems(item, schema.at(sub), f"{path}.{key}" if path else str(key))
    if isinstance(value, list):
        first = node.get("prefixItems", [])
        for index, item in enumerate(value):
            sub = first[index] if index < len(first) else node.get("items", True)
            yield from _problems(item, schema.at(sub), f"{path}[{index}]")


def at(path: str, reason: str) -> str:
    """Return a reason with the place in the value that it is about, if it is not the whole."""
    return f"{path}: {reason}" if path else reason


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: dict[str, Callable[[Any], bool]] = {
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": _is_number,
    "string": lambda v: isinstance(v, str),
    "array": lambda v: isinstance(v, list),
    "object": lambda v: isinstance(v, dict),
    "null": lambda v: v is None,
}


def _type(value: Any, wanted: Any, _: _Schema) -> Iterator[str]:
    names = wanted if isinstance(wanted, list) else [wanted]
    if not any(_TYPES.get(name, lambda _: True)(value) for name in names):
        yield f"{_short(value)} is not of type {' or '.join(names)}"


def _enum(value: Any, allowed: Any, _: _Schema) -> Iterator[str]:
    if not any(_same(value, choice) for choice in allowed):
        yield f"{_short(value)} is none of {', '.join(map(_short, allowed))}"


def _const(value: Any, wanted: Any, _: _Schema) -> Iterator[str]:
    if not _same(value, wanted):
        yield f"{_short(value)} is not {_short(wanted)}"


def _required(value: Any, names: Any, _: _Schema) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (f"{name} is missing" for name in names if name not in value)


def _ref(value: Any, target: Any, schema: _Schema) -> Iterator[str]:
    node = schema.root
    for part in str(target).removeprefix("#").split("/")[1:]:
        node = node[part.replace("~1", "/").replace("~0", "~")]
    return _problems(value, schema.at(node), "")


def _all_of(value: Any, parts: Any, schema: _Schema) -> Iterator[str]:
    for part in parts:
        yield from _problems(value, schema.at(part), "")


def _any_of(value: Any, parts: Any, schema: _Schema) -> Iterator[str]:
    reasons = [next(_problems(value, schema.at(part), ""), None) for part in parts]
    if None not in reasons:
        yield " and ".join(str(reason) for reason in reasons)


def _bound(holds: Callable[[Any, Any], bool], words: str) -> _Check:
    def check(value: Any, limit: Any, _: _Schema) -> Iterator[str]:
        if _is_number(value) and not holds(value, limit):
            yield f"{_short(value)} is not {words} {limit}"

    return check


def _length(
    kinds: type[str] | type[list[Any]], holds: Callable[[Any, Any], bool], words: str
) -> _Check:
    def check(value: Any, limit: Any, _: _Schema) -> Iterator[str]:
        if isinstance(value, kinds) and not holds(len(value), limit):
            yield f"its length {len(value)} is not {words} {limit}"

    return check


def _pattern(value: Any, pattern: Any, _: _Schema) -> Iterator[str]:
    if isinstance(value, str) and re.search(pattern, value) is None:
        yield f"{_short(value)} does not match {pattern}"


def _format(value: Any, name: Any, _: _Schema) -> Iterator[str]:
    parse = _FORMATS.get(name)
    if parse is None or not isinstance(value, str):
        return
    try:
        parse(value)
    except ValueError:
        yield f"{_short(value)} is no {name}"


def _uuid(text: str) -> object:
    # Few processes see one.
    from uuid import UUID

    return UUID(text)


def _at_least(value: Any, limit: Any) -> bool:
    return bool(value >= limit)


def _at_most(value: Any, limit: Any) -> bool:
    return bool(value <= limit)


def _same(left: Any, right: Any) -> bool:
    # In JSON, true is not 1.
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_FORMATS: dict[str, Callable[[str], object]] = {
    "date": date.fromisoformat,
    "date-time": datetime.fromisoformat,
    "time": time.fromisoformat,
    "uuid": _uuid,
}
_CHECKS: dict[str, _Check] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "required": _required,
    "$ref": _ref,
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _any_of,
    "minimum": _bound(_at_least, "at least"),
    "maximum": _bound(_at_most, "at most"),
    "exclusiveMinimum": _bound(lambda value, limit: bool(value > limit), "more than"),
    "exclusiveMaximum": _bound(lambda value, limit: bool(value < limit), "less than"),
    "minLength": _length(str, _at_least, "at least"),
    "maxLength": _length(str, _at_most, "at most"),
    "minItems": _length(list, _at_least, "at least"),
    "maxItems": _length(list, _at_most, "at most"),
    "pattern": _pattern,
    "format": _format,
}
