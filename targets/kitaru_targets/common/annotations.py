"""JSON schemas of annotations, read from their text: the check of an input before a run starts.

A plan contains the annotation of each input as written. Nothing is imported here, neither to start
a run nor to compile, so only
certain parts of the text count:

    Annotated[int, Field(gt=0)]      {"type": "integer", "exclusiveMinimum": 0}
    Literal["a", "b"] | None         {"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]}
    list[Order]                      {"type": "array", "items": {}}

Every other annotation, such as `Order`, is `{}` and fits any value here. The first step checks it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

_Schema = dict[str, Any]
_TYPES = {
    "bool": "boolean", "int": "integer", "float": "number", "str": "string", "list": "array",
    "dict": "object", "List": "array", "Dict": "object", "None": "null",
}  # fmt: skip
_ARRAYS = frozenset({"list", "List", "set", "Set", "frozenset", "FrozenSet"})
_BOUNDS = {
    "gt": "exclusiveMinimum",
    "ge": "minimum",
    "lt": "exclusiveMaximum",
    "le": "maximum",
    "multiple_of": "multipleOf",
}
_LENGTHS = {"string": "Length", "array": "Items", "object": "Properties"}
# From annotated_types, which pydantic supports as well.
_ALONE = {
    "Gt": "gt", "Ge": "ge", "Lt": "lt", "Le": "le", "MultipleOf": "multiple_of",
    "MinLen": "min_length", "MaxLen": "max_length",
}  # fmt: skip


@lru_cache(maxsize=256)
def _parsed(annotation: str) -> ast.expr | None:
    try:
        return ast.parse(annotation.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        return None


def schema_of(annotation: str) -> _Schema:
    """Return the JSON schema of an annotation's values; `{}` if it is uncertain.

    >>> schema_of("Annotated[int, Field(gt=0)]")
    {'type': 'integer', 'exclusiveMinimum': 0}
    """
    node = _parsed(annotation)
    return {} if node is None else _schema(node)


def _schema(node: ast.expr) -> _Schema:
    match node:
        case ast.Constant(value=None):
            return {"type": "null"}
        case ast.Constant(value=str(text)):
            return schema_of(text)
        case ast.Name(id=name) if name in _TYPES:
            return {"type": _TYPES[name]}
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _any_of([left, right])
        case ast.Subscript(value=value, slice=inside):
            parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
            return _generic(_last(value), parts)
    return {}


def _generic(name: str, parts: list[ast.expr]) -> _Schema:
    match name:
        case "Optional" if len(parts) == 1:
            return _any_of([parts[0], ast.Constant(None)])
        case "Union":
            return _any_of(parts)
        case "Literal":
            return _choices(parts)
        case "Annotated" if parts:
            return _constrained(_schema(parts[0]), parts[1:])
        case "dict" | "Dict" if len(parts) == 2:
            values = _schema(parts[1])
            return {"type": "object", **({"additionalProperties": values} if values else {})}
        case name if name in _ARRAYS and len(parts) == 1:
            items = _schema(parts[0])
            return {"type": "array", **({"items": items} if items else {})}
    return {}


def _any_of(parts: list[ast.expr]) -> _Schema:
    found = [_schema(part) for part in parts]
    return {"anyOf": found} if all(found) else {}


def _choices(parts: list[ast.expr]) -> _Schema:
    plain = [part.value for part in parts if isinstance(part, ast.Constant)]
    certain = len(plain) == len(parts) and all(
        choice is None or isinstance(choice, str | int) for choice in plain
    )
    # Inside other types pydantic accepts true for 1, as Python does.
    alike = [bool(choice) for choice in plain if type(choice) is int and choice in (0, 1)]
    return {"enum": [*plain, *alike]} if certain else {}


def _constrained(base: _Schema, metadata: list[ast.expr]) -> _Schema:
    """Add the constraints of `Annotated` to a schema; those of a union may apply to any part."""
    kind = base.get("type")
    if kind is None:
        return base
    found = dict(base)
    for name, value in (pair for one in metadata for pair in _constraints(one)):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name in _BOUNDS and kind in ("integer", "number") and number:
            found[_BOUNDS[name]] = value
        elif name in ("min_length", "max_length") and kind in _LENGTHS and number:
            found[name.removesuffix("_length") + _LENGTHS[kind]] = value
    return found


def _constraints(node: ast.expr) -> Iterator[tuple[str, Any]]:
    match node:
        case ast.Call(func=func, args=arguments, keywords=keywords):
            name = _last(func)
            if name == "Field":
                yield from ((k.arg, _literal(k.value)) for k in keywords if k.arg)
            elif name in _ALONE and len(arguments) == 1 and not keywords:
                yield _ALONE[name], _literal(arguments[0])


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _last(node: ast.expr) -> str:
    """Return the last part of a dotted name such as `typing.Annotated`."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(attr=name):
            return name
    return ""
