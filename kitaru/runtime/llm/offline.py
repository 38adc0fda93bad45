"""Decides what the offline model answers: what it was asked, in the shape that was asked for."""

from __future__ import annotations

import json
from typing import Any

_SHOWN = 200
_DEEPEST = 20


def offline_text(asked: str, name: str, schema: dict[str, Any] | None) -> str:
    """Return the answer to a message: the same each time, and it says that no model was asked.

    With a `schema` it is the shortest JSON that has its types; limits that types do not tell, a
    pattern for example, may leave it one that does not fit.
    """
    shown = " ".join(asked.split())
    shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"
    text = f'[kitaru offline model: no model is configured for "{name}"] It was asked: {shown}'
    return text if schema is None else json.dumps(_sample(schema, schema, text, 0))


def _sample(schema: Any, root: dict[str, Any], text: str, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return None
    if "$ref" in schema:
        return _sample(_target(schema["$ref"], root), root, text, depth + 1)
    for choices in ("enum", "anyOf", "oneOf", "allOf"):
        if schema.get(choices):
            first = schema[choices][0]
            return first if choices == "enum" else _sample(first, root, text, depth + 1)
    if "const" in schema:
        return schema["const"]
    return _of_type(schema, root, text, depth)


def _of_type(schema: dict[str, Any], root: dict[str, Any], text: str, depth: int) -> Any:
    match schema.get("type"):
        case "object":
            known = schema.get("properties", {})
            names = schema.get("required", ())
            return {name: _sample(known.get(name), root, text, depth + 1) for name in names}
        case "array":
            items = schema.get("prefixItems") or [schema.get("items")] * schema.get("minItems", 0)
            return [_sample(item, root, text, depth + 1) for item in items]
        case "integer" | "number":
            return schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
        case "boolean":
            return False
        case "string":
            return text[: schema.get("maxLength")]
    return None


def _target(reference: str, root: Any) -> Any:
    for part in reference.removeprefix("#").split("/")[1:]:
        root = root[part.replace("~1", "/").replace("~0", "~")]
    return root
